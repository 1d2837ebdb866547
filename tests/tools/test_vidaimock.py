"""What Weir meters before vidaimock, a mock of the providers written by others, is what vidaimock
reported: read here, by other code than Weir's, from the bytes that the client received.

https://crates.io/crates/vidaimock
"""

import concurrent.futures
import json
import tempfile
import unittest

import local

VIDAIMOCK = local.tool("vidaimock", "bin/vidaimock")
FIGURES = ["requests", "failed", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
           "reasoning_tokens"]
MODELS = {"openai": ["gpt-*", "o4-*", "text-embedding-*"], "anthropic": ["claude-*"], "gemini": ["gemini-*"]}
# Enough for settlements of all shards to overlap.
CROWD_ROUNDS, CROWD_THREADS = 20, 16

CHAT, MESSAGES, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"
TURN = [{"role": "user", "content": "What does a weir measure? 堰は何を測りますか"}]
CONTENTS = [{"role": "user", "parts": [{"text": "What does a weir measure?"}]}]
TOOL = {"name": "level", "description": "How high a river is",
        "parameters": {"type": "object", "properties": {"river": {"type": "string"}}}}
CLAUDE_TOOL = {"name": "level", "input_schema": TOOL["parameters"]}
STREAM = {"stream": True}
REPORTING = {"stream": True, "stream_options": {"include_usage": True}}


def gemini(model, verb, **body):
    return f"/v1beta/models/{model}:{verb}", model, {"contents": CONTENTS, **body}


def named(path, model, **body):
    return path, model, {"model": model, **body}


# Each has a model of its own, so that the rows by model say what each was metered as.
REQUESTS = [
    named(CHAT, "gpt-plain", messages=TURN),
    named(CHAT, "gpt-tools", messages=TURN, tools=[{"type": "function", "function": TOOL}]),
    named(CHAT, "o4-reasons", messages=TURN),
    named(CHAT, "gpt-json", messages=TURN, response_format={"type": "json_object"}),
    named(CHAT, "gpt-stream", messages=TURN, **REPORTING),
    named(CHAT, "gpt-stream-tools", messages=TURN, tools=[{"type": "function", "function": TOOL}], **REPORTING),
    named(RESPONSES, "gpt-responses", input="What does a weir measure?"),
    named(RESPONSES, "gpt-responses-stream", input="What does a weir measure?", **STREAM),
    named(EMBEDDINGS, "text-embedding-one", input="a weir"),
    named(EMBEDDINGS, "text-embedding-many", input=["a weir", "a dam across a river"]),
    named(MESSAGES, "claude-plain", max_tokens=64, messages=TURN),
    named(MESSAGES, "claude-tools", max_tokens=64, messages=TURN, tools=[CLAUDE_TOOL]),
    named(MESSAGES, "claude-stream", max_tokens=64, messages=TURN, **STREAM),
    named(MESSAGES, "claude-stream-tools", max_tokens=64, messages=TURN, tools=[CLAUDE_TOOL], **STREAM),
    gemini("gemini-plain", "generateContent"),
    gemini("gemini-tools", "generateContent", tools=[{"functionDeclarations": [TOOL]}]),
    gemini("gemini-stream", "streamGenerateContent?alt=sse"),
    gemini("gemini-stream-tools", "streamGenerateContent?alt=sse", tools=[{"functionDeclarations": [TOOL]}]),
]


class Vidaimock(local.Process):
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-test-")
        self.address = f"127.0.0.1:{local.free_port()}"
        host, port = self.address.split(":")
        # In its own folder: it reads mock-server.toml from where it is started.
        super().__init__([VIDAIMOCK, "--host", host, "--port", port, "--mode", "benchmark", "--latency", "0"],
                         directory=self.folder.name)

    def await_start(self):
        def ready():
            self.still_runs()
            return local.answers(self.address, "/health")

        local.wait_for("vidaimock", ready, local.START_SECONDS)

    def __exit__(self, *_):
        super().__exit__()
        self.folder.cleanup()


def documents(content_type, body):
    """The JSON values of an answer, plain or streamed, in order."""
    if not content_type.startswith("text/event-stream"):
        return [json.loads(body)]
    lines = [line[len("data:"):].strip() for line in body.decode().splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def reported(path, documents):
    """The usage in an answer, as its provider documents it, by the names of Weir's figures; `None` if
    there is none."""
    found = None
    for document in documents:
        usage = document.get("usage") or document.get("usageMetadata")
        if path == RESPONSES:
            usage = usage or document.get("response", {}).get("usage")
        if path == MESSAGES:
            usage = usage or document.get("message", {}).get("usage")
        if usage:
            # Anthropic's later reports replace figures of the first; the others report once.
            found = {**(found or {}), **usage}
    if found is None:
        return None
    figure = lambda *names: next((found[name] for name in names if found.get(name) is not None), 0)
    detail = lambda group, name: (found.get(group) or {}).get(name) or 0
    if path == MESSAGES:
        read, written = figure("cache_read_input_tokens"), figure("cache_creation_input_tokens")
        return [figure("input_tokens") + read + written, figure("output_tokens"), read, written, 0]
    if path.startswith("/v1beta/"):
        thoughts = figure("thoughtsTokenCount")
        return [figure("promptTokenCount") + figure("toolUsePromptTokenCount"),
                figure("candidatesTokenCount") + thoughts, figure("cachedContentTokenCount"), 0, thoughts]
    side = lambda one, other, name: detail(one, name) or detail(other, name)
    return [figure("prompt_tokens", "input_tokens"), figure("completion_tokens", "output_tokens"),
            side("prompt_tokens_details", "input_tokens_details", "cached_tokens"), 0,
            side("completion_tokens_details", "output_tokens_details", "reasoning_tokens")]


class Metering(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.upstream = self.enterContext(Vidaimock())
        configuration = local.configuration(MODELS, self.upstream.address, "sk-vidaimock-has-none")
        self.weir = self.enterContext(local.Gateway(configuration))

    def send(self, path, body, address=None, **headers):
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.weir.key}", **headers}
        return local.request(address or self.weir.gateway, "POST", path, headers, json.dumps(body).encode())

    def metered(self, requests):
        """The rows by model, once that many requests are settled."""
        def rows():
            found = self.weir.usage("model")
            return found if sum(row["requests"] for row in found) >= requests else None

        found = local.wait_for(f"{requests} settlements", rows, local.SETTLE_SECONDS)
        return {row["model"]: [row[figure] for figure in FIGURES] for row in found}

    def test_what_the_client_read_is_what_was_metered(self):
        expected = {}
        for path, model, body in REQUESTS:
            status, headers, answer = self.send(path, body)
            self.assertEqual(status, 200, f"{model}: {answer!r}")
            used = reported(path, documents(headers["content-type"], answer))
            self.assertIsNotNone(used, f"{model}: nothing was reported in {answer!r}")
            self.assertGreater(sum(used), 0, model)
            expected[model] = [1, 0, *used]
        self.assertEqual(self.metered(len(REQUESTS)), expected)

        by_command = self.weir.usage_command("model")
        self.assertEqual(by_command, self.weir.usage("model"))
        super(local.Gateway, self.weir).__exit__()
        self.assertEqual(self.weir.usage_command("model"), by_command, "the ledger of a gateway that has ended")

    def test_a_usage_that_the_client_did_not_ask_for_is_metered_and_not_seen(self):
        path, model, asked = named(CHAT, "gpt-unasked", messages=TURN, **STREAM)
        _, headers, direct = self.send(path, asked, self.upstream.address)
        self.assertIsNone(reported(path, documents(headers["content-type"], direct)))
        _, headers, direct_reporting = self.send(path, {**asked, **REPORTING}, self.upstream.address)
        used = reported(path, documents(headers["content-type"], direct_reporting))
        status, _, through = self.send(path, asked)
        self.assertEqual((status, through), (200, direct))
        self.assertEqual(self.metered(1), {model: [1, 0, *used]})

    def test_a_refusal_arrives_and_counts_as_failed(self):
        path, model, body = named(MESSAGES, "claude-refused", messages=TURN)
        direct = self.send(path, body, self.upstream.address)
        through = self.send(path, body)
        self.assertEqual((through[0], through[2]), (400, direct[2]), "max_tokens is missing")
        self.assertEqual(self.metered(1), {model: [1, 1, 0, 0, 0, 0, 0]})

    def test_nothing_is_lost_or_counted_twice_in_a_crowd(self):
        def one(request):
            path, model, body = request
            status, headers, answer = self.send(path, body)
            return model, status, reported(path, documents(headers["content-type"], answer))

        crowd = REQUESTS * CROWD_ROUNDS
        with concurrent.futures.ThreadPoolExecutor(CROWD_THREADS) as pool:
            answers = list(pool.map(one, crowd))
        expected = {model: [0] * len(FIGURES) for _, model, _ in REQUESTS}
        for model, status, used in answers:
            self.assertEqual(status, 200)
            expected[model] = [sum(pair) for pair in zip(expected[model], [1, 0, *used])]
        self.assertEqual(self.metered(len(crowd)), expected)


if __name__ == "__main__":
    unittest.main()
