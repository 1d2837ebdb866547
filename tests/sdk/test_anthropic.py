"""Anthropic's Python SDK gets the same objects through Weir as from the provider."""

import asyncio
import os
import unittest
import unittest.mock

import anthropic
import common

setUpModule, tearDownModule = common.start, common.stop

MODEL = "claude-sonnet-4-5"
ASKED = {
    "model": MODEL,
    "max_tokens": 256,
    "system": [{"type": "text", "text": "You know every river by its name and its length.",
                "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": "Which river is the longest? Wie lang ist er? どこにありますか"}],
}
TOOLS = [{"name": "length", "description": "How long a river is",
          "input_schema": {"type": "object", "properties": {"river": {"type": "string"}}}}]


def client(address, key, kind=anthropic.Anthropic):
    return kind(base_url=f"http://{address}", api_key=key, max_retries=0, timeout=30)


def clients(kind=anthropic.Anthropic):
    demo = common.demo()
    return client(demo.mock, demo.mock_key, kind), client(demo.gateway, demo.key, kind)


def dumps(objects):
    return [one.model_dump() for one in objects]


class Messages(common.TwoWays):
    def test_a_message(self):
        def ask(anthropic):
            answer = anthropic.messages.create(**ASKED)
            self.assertGreater(answer.usage.cache_read_input_tokens, 0)
            return answer.model_dump()

        self.compare(ask, clients())

    def test_a_use_of_a_tool(self):
        def ask(anthropic):
            answer = anthropic.messages.create(**ASKED, tools=TOOLS)
            self.assertEqual(answer.stop_reason, "tool_use")
            return answer.model_dump()

        self.compare(ask, clients())

    def test_a_stream(self):
        def ask(anthropic):
            events = dumps(anthropic.messages.create(**ASKED, stream=True))
            self.assertEqual((events[0]["type"], events[-1]["type"]), ("message_start", "message_stop"))
            return events

        self.compare(ask, clients())

    def test_the_helper_that_gathers_a_stream(self):
        def ask(anthropic):
            with anthropic.messages.stream(**ASKED) as stream:
                return list(stream.text_stream), stream.get_final_message().model_dump()

        self.compare(ask, clients())

    def test_a_streamed_use_of_a_tool(self):
        def ask(anthropic):
            with anthropic.messages.stream(**ASKED, tools=TOOLS) as stream:
                return stream.get_final_message().model_dump()

        self.compare(ask, clients())

    def test_beta_headers_and_beta_queries_pass(self):
        def ask(anthropic):
            return anthropic.beta.messages.create(**ASKED, betas=["context-1m-2025-08-07"]).model_dump()

        self.compare(ask, clients())

    def test_a_key_in_both_of_its_forms(self):
        def both(address, key):
            return anthropic.Anthropic(base_url=f"http://{address}", api_key=key, max_retries=0,
                                       default_headers={"x-api-key": key})

        def ask(anthropic):
            return anthropic.messages.create(**ASKED).model_dump()

        demo = common.demo()
        self.compare(ask, (both(demo.mock, demo.mock_key), both(demo.gateway, demo.key)))

    def test_a_client_that_is_told_by_its_environment(self):
        def told(address, key):
            environment = {"ANTHROPIC_BASE_URL": f"http://{address}", "ANTHROPIC_API_KEY": key}
            with unittest.mock.patch.dict(os.environ, environment):
                return anthropic.Anthropic()

        def ask(anthropic):
            return anthropic.messages.create(**ASKED).model_dump()

        demo = common.demo()
        self.compare(ask, (told(demo.mock, demo.mock_key), told(demo.gateway, demo.key)))

    def test_the_asynchronous_client(self):
        def ask(anthropic):
            async def gathered():
                async with anthropic, anthropic.messages.stream(**ASKED) as stream:
                    return (await stream.get_final_message()).model_dump()

            return asyncio.run(gathered())

        self.compare(ask, clients(anthropic.AsyncAnthropic))

    def test_tokens_are_counted(self):
        def ask(anthropic):
            counted = anthropic.messages.count_tokens(model=MODEL, messages=ASKED["messages"])
            self.assertGreater(counted.input_tokens, 0)
            return counted.model_dump()

        self.compare(ask, clients())


class Models(unittest.TestCase):
    def test_models_are_listed_as_the_provider_lists_them(self):
        demo = common.demo()
        direct = client(demo.mock, demo.mock_key)
        with common.models_gateway() as gateway:
            through = client(gateway.gateway, gateway.key)
            expected = sorted((type(model).__name__, model.id, model.type) for model in direct.models.list())
            listed = [(type(model).__name__, model.id, model.type) for model in through.models.list()]
            self.assertEqual(listed, expected)
            self.assertEqual(len(listed), 2)
            one = through.models.retrieve(MODEL)
            self.assertEqual((one.id, one.display_name), (MODEL, MODEL))
            with self.assertRaises(anthropic.NotFoundError):
                through.models.retrieve("claude-unknown")


class Errors(unittest.TestCase):
    def test_an_unknown_key_is_an_authentication_error(self):
        stranger = client(common.demo().gateway, "sk-weir-nobody")
        with self.assertRaises(anthropic.AuthenticationError) as refused:
            stranger.messages.create(**ASKED)
        self.assertEqual(refused.exception.body["error"]["type"], "authentication_error")

    def test_an_unknown_model_is_not_found(self):
        with self.assertRaises(anthropic.NotFoundError) as refused:
            clients()[1].messages.create(**{**ASKED, "model": "nobody-serves-this"})
        self.assertEqual(refused.exception.body["type"], "error")

    def test_the_providers_refusal_arrives_as_it_was_said(self):
        def refusal(client):
            with self.assertRaises(anthropic.BadRequestError) as refused:
                client.messages.create(**ASKED, extra_headers={"x-mock-status": "400"})
            return refused.exception.body

        direct, through = map(refusal, clients())
        self.assertTrue(direct)
        self.assertEqual(through, direct)


if __name__ == "__main__":
    unittest.main()
