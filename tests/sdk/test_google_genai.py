"""Google's Python SDK gets the same objects through Weir as from the provider, under both versions of
the API."""

import asyncio
import os
import unittest
import unittest.mock

import common
from google import genai
from google.genai import errors, types

setUpModule, tearDownModule = common.start, common.stop

MODEL = "gemini-2.5-flash"
EMBEDDING = "gemini-embedding-2"
ASKED = "Where does a river end? Wo mündet er? 川はどこで終わりますか"
# None: the SDK's own default.
VERSIONS = [None, "v1", "v1beta"]


def client(address, key, version=None):
    options = types.HttpOptions(base_url=f"http://{address}", api_version=version, timeout=30_000)
    return genai.Client(api_key=key, vertexai=False, http_options=options)


def clients(version=None):
    demo = common.demo()
    return client(demo.mock, demo.mock_key, version), client(demo.gateway, demo.key, version)


def dump(answer):
    # The headers of the connection; `compare` looks at those by itself.
    return answer.model_dump(exclude={"sdk_http_response"})


class Models(common.TwoWays):
    def compare_versions(self, ask, **expected):
        for version in VERSIONS:
            with self.subTest(version):
                self.compare(ask, clients(version), **expected)

    def test_content(self):
        def ask(genai):
            answer = genai.models.generate_content(model=MODEL, contents=ASKED)
            self.assertGreater(answer.usage_metadata.thoughts_token_count, 0)
            return dump(answer)

        self.compare_versions(ask)

    def test_a_stream(self):
        def ask(genai):
            chunks = [dump(chunk) for chunk in genai.models.generate_content_stream(model=MODEL, contents=ASKED)]
            self.assertGreater(len(chunks), 3)
            return chunks

        self.compare_versions(ask)

    def test_a_call_of_a_function(self):
        schema = types.Schema(type="OBJECT", properties={"river": types.Schema(type="STRING")})
        function = types.FunctionDeclaration(name="length", description="How long a river is", parameters=schema)
        config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[function])])

        def ask(genai):
            answer = genai.models.generate_content(model=MODEL, contents=ASKED, config=config)
            self.assertEqual(answer.function_calls[0].name, "length")
            return dump(answer)

        self.compare_versions(ask)

    def test_an_embedding(self):
        def ask(genai):
            answer = genai.models.embed_content(model=EMBEDDING, contents="a river")
            self.assertEqual(len(answer.embeddings), 1)
            return dump(answer)

        self.compare_versions(ask)

    def test_embeddings(self):
        def ask(genai):
            answer = genai.models.embed_content(model="gemini-embedding-001", contents=["a river", "a dam across it"])
            self.assertEqual(len(answer.embeddings), 2)
            return dump(answer)

        self.compare_versions(ask, silent=True)

    def test_tokens_are_counted(self):
        def ask(genai):
            answer = genai.models.count_tokens(model=MODEL, contents=ASKED)
            self.assertGreater(answer.total_tokens, 0)
            return dump(answer)

        self.compare_versions(ask)

    def test_a_chat_of_two_turns(self):
        def ask(genai):
            chat = genai.chats.create(model=MODEL)
            return [dump(chat.send_message(text)) for text in (ASKED, "And where does it begin?")]

        self.compare_versions(ask)

    def test_a_client_that_is_told_by_its_environment(self):
        def told(address, key):
            environment = {"GOOGLE_GEMINI_BASE_URL": f"http://{address}", "GEMINI_API_KEY": key}
            with unittest.mock.patch.dict(os.environ, environment):
                return genai.Client()

        def ask(genai):
            return dump(genai.models.generate_content(model=MODEL, contents=ASKED))

        demo = common.demo()
        self.compare(ask, (told(demo.mock, demo.mock_key), told(demo.gateway, demo.key)))

    def test_the_asynchronous_client(self):
        def ask(genai):
            async def chunks():
                stream = await genai.aio.models.generate_content_stream(model=MODEL, contents=ASKED)
                found = [dump(chunk) async for chunk in stream]
                await genai.aio.aclose()
                return found

            return asyncio.run(chunks())

        self.compare_versions(ask)


class Lists(unittest.TestCase):
    def test_models_are_listed_as_the_provider_lists_them(self):
        demo = common.demo()
        with common.models_gateway() as gateway:
            for version in VERSIONS:
                with self.subTest(version):
                    direct = client(demo.mock, demo.mock_key, version)
                    expected = sorted(model.name for model in direct.models.list())
                    through = client(gateway.gateway, gateway.key, version)
                    listed = list(through.models.list())
                    self.assertEqual([model.name for model in listed], expected)
                    self.assertEqual(len(listed), 2)
                    self.assertIn("generateContent", listed[0].supported_actions)
                    self.assertEqual(through.models.get(model=MODEL).name, f"models/{MODEL}")


class Errors(unittest.TestCase):
    def refusal(self, client, model=MODEL, **options):
        with self.assertRaises(errors.ClientError) as refused:
            client.models.generate_content(model=model, contents=ASKED, **options)
        return refused.exception

    def test_an_unknown_key_is_unauthenticated(self):
        for version in VERSIONS:
            with self.subTest(version):
                refused = self.refusal(client(common.demo().gateway, "sk-weir-nobody", version))
                self.assertEqual((refused.code, refused.status), (401, "UNAUTHENTICATED"))

    def test_an_unknown_model_is_not_found(self):
        refused = self.refusal(clients()[1], "nobody-serves-this")
        self.assertEqual((refused.code, refused.status), (404, "NOT_FOUND"))

    def test_the_providers_refusal_arrives_as_it_was_said(self):
        config = types.GenerateContentConfig(http_options=types.HttpOptions(headers={"x-mock-status": "400"}))
        direct, through = (self.refusal(client, config=config) for client in clients())
        self.assertTrue(direct.details)
        self.assertEqual((through.code, through.details), (direct.code, direct.details))


if __name__ == "__main__":
    unittest.main()
