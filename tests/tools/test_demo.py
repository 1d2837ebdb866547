"""The curl lines that `weir demo` prints work as printed, with the system's own curl and shell."""

import json
import subprocess
import unittest

import local

TITLES = {
    "openai.chat, plain", "openai.chat, streamed", "openai.completions, plain", "openai.completions, streamed",
    "openai.embeddings, plain", "openai.responses, plain", "openai.responses, streamed", "ollama.chat, plain",
    "ollama.chat, streamed", "anthropic.messages, plain", "anthropic.messages, streamed",
    "anthropic.count_tokens, plain", "gemini.generate, plain", "gemini.stream, streamed", "gemini.embed, plain",
    "gemini.count_tokens, plain",
}


def documents(text):
    """The JSON values in an answer: one value, server-sent events, or a value a line."""
    if not text.startswith(("{", "[")):
        lines = [line[len("data:"):].strip() for line in text.splitlines() if line.startswith("data:")]
        return [json.loads(line) for line in lines if line != "[DONE]"]
    decoder, values, at = json.JSONDecoder(), [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        values.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return values


class CurlLines(unittest.TestCase):
    def test_every_line_works_as_printed(self):
        with local.Demo() as demo:
            self.assertEqual({title for title, _ in demo.curl_lines}, TITLES)
            self.assertEqual(len(demo.curl_lines), len(TITLES))
            for title, line in demo.curl_lines:
                with self.subTest(title):
                    run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
                    self.assertEqual(run.returncode, 0, run.stderr)
                    found = documents(run.stdout)
                    self.assertTrue(found, f"nothing in {run.stdout!r}")
                    if title.endswith("streamed"):
                        self.assertGreater(len(found[0]) if isinstance(found[0], list) else len(found), 1, run.stdout)
                    for value in found:
                        failed = isinstance(value, dict) and value.get("error")
                        self.assertFalse(failed, f"{line}\n{run.stdout}")

            requests = lambda: sum(row["requests"] for row in demo.usage("channel")) == len(TITLES)
            local.wait_for("a settlement of each", requests, local.SETTLE_SECONDS)
            shown = lambda: all(title.split(",")[0] in demo.output().split("What is metered")[1] for title in TITLES)
            local.wait_for("a line of the table for each operation", shown, local.SETTLE_SECONDS)

    def test_a_line_without_its_key_is_refused(self):
        with local.Demo() as demo:
            _, line = demo.curl_lines[0]
            asked = line.replace(demo.key, "sk-weir-nobody")
            self.assertNotEqual(asked, line)
            run = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, timeout=30)
            self.assertEqual(json.loads(run.stdout)["error"]["code"], "invalid_api_key")


if __name__ == "__main__":
    unittest.main()
