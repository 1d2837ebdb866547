"""OpenAI's Python SDK gets the same objects through Weir as from the provider."""

import asyncio
import os
import unittest
import unittest.mock

import common
import openai

setUpModule, tearDownModule = common.start, common.stop

MESSAGES = [{"role": "system", "content": "You are brief."},
            {"role": "user", "content": "What's a weir? Ist das ein Wehr? 堰とは何ですか"}]
TOOLS = [{"type": "function", "function": {"name": "level", "description": "How high a river is",
          "parameters": {"type": "object", "properties": {"river": {"type": "string"}}}}}]
COMPATIBLE = ["deepseek-chat", "kimi-k2", "grok-4", "openrouter/auto", "azure-gpt-4o", "mistral-large"]


def client(address, key, kind=openai.OpenAI):
    return kind(base_url=f"http://{address}/v1", api_key=key, max_retries=0, timeout=30)


def clients(kind=openai.OpenAI):
    demo = common.demo()
    return client(demo.mock, demo.mock_key, kind), client(demo.gateway, demo.key, kind)


def dumps(objects):
    return [one.model_dump() for one in objects]


class Chat(common.TwoWays):
    def test_a_chat(self):
        def ask(openai):
            return openai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES).model_dump()

        self.compare(ask, clients())

    def test_a_call_of_a_tool(self):
        def ask(openai):
            answer = openai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, tools=TOOLS)
            self.assertEqual(answer.choices[0].message.tool_calls[0].function.name, "level")
            return answer.model_dump()

        self.compare(ask, clients())

    def test_a_stream_that_reports_usage(self):
        def ask(openai):
            options = {"include_usage": True}
            chunks = dumps(openai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True,
                                                          stream_options=options))
            self.assertGreater(chunks[-1]["usage"]["completion_tokens"], 0)
            return chunks

        self.compare(ask, clients())

    def test_a_stream_that_did_not_ask_for_usage_sees_none(self):
        def ask(openai):
            chunks = dumps(openai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))
            self.assertEqual([chunk["usage"] for chunk in chunks], [None] * len(chunks))
            self.assertTrue(all(chunk["choices"] for chunk in chunks))
            return chunks

        self.compare(ask, clients(), injected=True)

    def test_a_streamed_call_of_a_tool(self):
        def ask(openai):
            return dumps(openai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, tools=TOOLS,
                                                        stream=True, stream_options={"include_usage": True}))

        self.compare(ask, clients())

    def test_the_helper_that_gathers_a_stream(self):
        def ask(openai):
            with openai.chat.completions.stream(model="gpt-4o-mini", messages=MESSAGES) as stream:
                kinds = [event.type for event in stream]
                return kinds, stream.get_final_completion().model_dump()

        self.compare(ask, clients(), injected=True)

    def test_compatible_providers(self):
        for model in COMPATIBLE:
            with self.subTest(model):
                def ask(openai):
                    return openai.chat.completions.create(model=model, messages=MESSAGES).model_dump()

                self.compare(ask, clients())

    def test_streams_of_compatible_providers_that_report_when_asked(self):
        for model in ["deepseek-chat", "openrouter/auto", "azure-gpt-4o"]:
            with self.subTest(model):
                def ask(openai):
                    options = {"include_usage": True}
                    return dumps(openai.chat.completions.create(model=model, messages=MESSAGES, stream=True,
                                                                stream_options=options))

                self.compare(ask, clients())

    def test_the_asynchronous_client(self):
        def ask(openai):
            async def chunks():
                async with openai:
                    stream = await openai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True,
                                                                  stream_options={"include_usage": True})
                    return dumps([chunk async for chunk in stream])

            return asyncio.run(chunks())

        self.compare(ask, clients(openai.AsyncOpenAI))


    def test_a_client_that_is_told_by_its_environment(self):
        def told(address, key):
            environment = {"OPENAI_BASE_URL": f"http://{address}/v1", "OPENAI_API_KEY": key}
            with unittest.mock.patch.dict(os.environ, environment):
                return openai.OpenAI()

        def ask(openai):
            return openai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES).model_dump()

        demo = common.demo()
        self.compare(ask, (told(demo.mock, demo.mock_key), told(demo.gateway, demo.key)))


class Completions(common.TwoWays):
    def ask(self, **options):
        def ask(openai):
            answer = openai.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say how deep it is.", **options)
            return dumps(answer) if "stream" in options else answer.model_dump()

        return ask

    def test_a_completion(self):
        self.compare(self.ask(), clients())

    def test_a_stream(self):
        self.compare(self.ask(stream=True), clients(), injected=True)

    def test_a_stream_that_reports_usage(self):
        self.compare(self.ask(stream=True, stream_options={"include_usage": True}), clients())


class Responses(common.TwoWays):
    def test_a_response_and_its_retrieval(self):
        def ask(openai):
            made = openai.responses.create(model="gpt-5-mini", input="Name three rivers.", instructions="Be brief.")
            return dumps([made, openai.responses.retrieve(made.id)])

        self.compare(ask, clients())

    def test_a_stream(self):
        def ask(openai):
            events = dumps(openai.responses.create(model="gpt-5-mini", input="Name three rivers.", stream=True))
            self.assertEqual(events[-1]["type"], "response.completed")
            return events

        self.compare(ask, clients())

    def test_the_helper_that_gathers_a_stream(self):
        def ask(openai):
            with openai.responses.stream(model="gpt-5-mini", input="Name three rivers.") as stream:
                stream.until_done()
                return stream.get_final_response().model_dump()

        self.compare(ask, clients())


class Others(common.TwoWays):
    def test_embeddings(self):
        def ask(openai):
            texts = ["a river", "a dam across it"]
            return openai.embeddings.create(model="text-embedding-3-small", input=texts).model_dump()

        self.compare(ask, clients())

    def test_embeddings_as_numbers(self):
        def ask(openai):
            answer = openai.embeddings.create(model="text-embedding-3-small", input="a river", encoding_format="float")
            return answer.model_dump()

        self.compare(ask, clients())

    def test_an_upload(self):
        def ask(openai):
            lines = ("batch.jsonl", b'{"custom_id": "first"}\n' * 1000)
            return openai.files.create(file=lines, purpose="batch").model_dump()

        self.compare(ask, clients(), form=True)

    def test_a_transcription(self):
        def ask(openai):
            recording = ("river.wav", b"RIFF: the sound of a river")
            return openai.audio.transcriptions.create(model="gpt-4o-transcribe", file=recording).model_dump()

        self.compare(ask, clients(), form=True)

    def test_lists_images_moderations_and_batches(self):
        calls = [
            lambda openai: dumps(openai.files.list()),
            lambda openai: openai.files.content("file-mock").read(),
            lambda openai: openai.files.delete("file-mock").model_dump(),
            lambda openai: openai.images.generate(model="gpt-image-1", prompt="a weir").model_dump(),
            lambda openai: openai.moderations.create(model="omni-moderation-latest", input="It rises.").model_dump(),
            lambda openai: openai.batches.create(input_file_id="file-mock", endpoint="/v1/chat/completions",
                                                 completion_window="24h").model_dump(),
        ]
        for at, ask in enumerate(calls):
            with self.subTest(at):
                self.compare(ask, clients())


class Models(unittest.TestCase):
    def test_models_are_listed_as_the_provider_lists_them(self):
        demo = common.demo()
        direct = client(demo.mock, demo.mock_key)
        with common.models_gateway() as gateway:
            through = client(gateway.gateway, gateway.key)
            expected = sorted((type(model), model.id, model.object) for model in direct.models.list())
            listed = [(type(model), model.id, model.object) for model in through.models.list()]
            self.assertEqual(listed, expected)
            self.assertEqual(len(listed), 3)
            one = through.models.retrieve("gpt-4o-mini")
            self.assertEqual((one.id, one.owned_by, one.created), ("gpt-4o-mini", "openai", 0))
            with self.assertRaises(openai.NotFoundError):
                through.models.retrieve("gpt-unknown")


class Errors(unittest.TestCase):
    def test_an_unknown_key_is_an_authentication_error(self):
        stranger = client(common.demo().gateway, "sk-weir-nobody")
        with self.assertRaises(openai.AuthenticationError) as refused:
            stranger.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        self.assertEqual(refused.exception.code, "invalid_api_key")

    def test_an_unknown_model_is_not_found(self):
        with self.assertRaises(openai.NotFoundError) as refused:
            clients()[1].chat.completions.create(model="nobody-serves-this", messages=MESSAGES)
        self.assertIn("nobody-serves-this", refused.exception.message)

    def test_the_providers_refusal_arrives_as_it_was_said(self):
        def refusal(client):
            with self.assertRaises(openai.BadRequestError) as refused:
                client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES,
                                               extra_headers={"x-mock-status": "400"})
            return refused.exception.body

        direct, through = map(refusal, clients())
        self.assertTrue(direct)
        self.assertEqual(through, direct)


if __name__ == "__main__":
    unittest.main()
