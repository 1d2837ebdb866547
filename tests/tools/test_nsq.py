"""What Weir publishes at an nsqd is read by `pynsq`, the NSQ project's own library: records that are the same as in the
file of records, and `ai_event` messages that count in APIPark what they count in Weir.

https://pypi.org/project/pynsq/
"""

import asyncio
import json
import logging
import re
import struct
import unittest
import uuid
from collections import Counter

import nsq

import local
from nsqd import Nsqd

TOPIC = "apipark_ai_event"
READ_SECONDS = 20
# A client of the shortest heartbeat that can be had is thrown out after two seconds if it does not answer it.
HEARTBEAT_SECONDS, STAY_SECONDS = 1, 2.5
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What does a weir measure? 堰は何を測りますか\n"}]}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def read(address, topic, channel, count):
    """The bodies of all messages that a new channel of a topic has, which should be so many. Stays a little longer, to
    see whether more come."""

    async def consume():
        bodies, done = [], asyncio.Event()
        if not count:
            done.set()

        def take(message):
            bodies.append(message.body)
            if len(bodies) >= count:
                done.set()
            return True

        reader = nsq.Reader(topic=topic, channel=channel, message_handler=take, nsqd_tcp_addresses=[address],
                            max_in_flight=10, heartbeat_interval=HEARTBEAT_SECONDS)
        try:
            await asyncio.wait_for(done.wait(), READ_SECONDS)
            await asyncio.sleep(STAY_SECONDS)
            if not all(conn.connected() for conn in reader.conns.values()) or not reader.conns:
                raise ConnectionError("the consumer was thrown out")
        finally:
            reader.close()
        return bodies

    return asyncio.run(consume())


class Consumer:
    """What APIPark's consumer does with a message, by APIParkLab/APIPark at 9192b399, app/ai-event-handler: what Go's
    decoder does not take into the consumer's types, and keys that it does not know, lose the message."""

    STRINGS = ("api", "provider", "request_id", "time_iso8601")
    STATUSES = {"normal": "normal", "invalid request": "normal", "quota exhausted": "exceed", "expired": "expired",
                "exceeded": "normal", "invalid": "error", "timeout": "error"}
    RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d):\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

    def __init__(self, keys):
        self.keys, self.tokens, self.uses, self.providers = dict.fromkeys(keys), Counter(), {}, {}

    def handle(self, body):
        message = json.loads(body)
        ai = message["ai"]
        for name in self.STRINGS:
            self.text(message[name])
        self.text(ai["ai_model"]), self.text(ai["ai_provider"])
        statuses = ai["ai_provider_statuses"]
        if type(statuses) is not list:
            raise TypeError(f"json: cannot unmarshal {statuses!r} into a list")
        minute = self.RFC3339.fullmatch(message["time_iso8601"])[1]
        key = ""
        for status in statuses:
            for name in ("provider", "model", "key", "status"):
                self.text(status[name])
            key = status["key"].split("@")[0].removeprefix(status["provider"] + "-")
            if key not in self.keys:
                raise KeyError(f"Failed to save AI key: {key!r}")
            self.keys[key] = self.STATUSES.get(status["status"], "normal")
            self.providers[status["provider"]] = status["provider"] == ai["ai_provider"]
        if key not in self.keys:
            raise KeyError(f"Failed to increment AI key token: {key!r}")
        tokens = [ai[f"ai_model_{kind}_token"] for kind in ("input", "output", "total")]
        if any(type(number) not in (int, float) for number in tokens):
            raise TypeError(f"would count as nothing: {tokens}")
        self.tokens[key] += tokens[2]
        use = (message["api"], message["provider"], ai["ai_provider"], ai["ai_model"], minute)
        self.uses[use] = [sum(pair) for pair in zip(self.uses.get(use, [0, 0, 0]), tokens)]
        return message

    @staticmethod
    def text(value):
        if type(value) is not str:
            raise TypeError(f"json: cannot unmarshal {value!r} into a string")


def gateway(demo, nsqd, **settings):
    """Channels and keys have the names that APIPark has for them. The first of two channels is dead."""
    configuration = json.loads(local.configuration({}, demo.mock, demo.mock_key))
    channel = {"protocol": "openai", "models": ["gpt-*"]}
    configuration["channels"] = [
        {**channel, "name": "azure", "base_url": f"http://127.0.0.1:{local.free_port()}", "priority": 0,
         "keys": [{"name": "key-of-azure", "value": "x"}], "models": ["gpt-4o"]},
        {**channel, "name": "openai", "base_url": f"http://{demo.mock}", "priority": 1,
         "keys": [{"name": "key-of-openai", "value": demo.mock_key}]},
    ]
    configuration["audit"] = {
        "node": "service-of-apipark",
        "jsonl": {"directory": "records"},
        "nsq": {"url": f"http://127.0.0.1:{nsqd.http_port}", "topic": TOPIC, "batch_wait": "50ms", **settings},
    }
    return local.Gateway(json.dumps(configuration))


def ask(weir, body, key=None):
    headers = {"authorization": f"Bearer {key or weir.key}", "content-type": "application/json"}
    status, headers, _ = local.request(weir.gateway, "POST", "/v1/chat/completions", headers, json.dumps(body))
    return status, headers["x-weir-request-id"]


def figure(weir, sample):
    """What the gateway's metrics have behind the name and the labels of a sample; `None`: it is not there."""
    lines = local.request(weir.admin, "GET", "/metrics")[2].decode().splitlines()
    return next((float(line.removeprefix(sample)) for line in lines if line.startswith(sample)), None)


def ask_each(weir):
    """One request of each kind, by its name: status and id."""
    return {
        "plain": ask(weir, CHAT),
        "streamed": ask(weir, {**CHAT, **STREAM}),
        "failed over": ask(weir, {**CHAT, "model": "gpt-4o"}),
        "refused": ask(weir, CHAT, "sk-weir-nobody"),
    }


class Published(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # What pynsq says of connections that the tests close.
        logging.getLogger("nsq").setLevel(logging.CRITICAL)

    def test_events_count_in_apipark_what_they_count_in_weir(self):
        with local.Demo() as demo, Nsqd() as nsqd, gateway(demo, nsqd, format="ai_event") as weir:
            asked = ask_each(weir)
            self.assertEqual([status for status, _ in asked.values()], [200, 200, 200, 401])
            bodies = read(nsqd.tcp, TOPIC, "apipark", len(asked))
            self.assertEqual((len(bodies), nsqd.finished, nsqd.oddities), (len(asked), len(asked), []))

            messages = {json.loads(body)["request_id"]: body for body in bodies}
            of = {kind: messages[str(uuid.UUID(id))] for kind, (_, id) in asked.items()}
            consumer = Consumer(["key-of-openai", "key-of-azure"])
            read_as = {kind: consumer.handle(body) for kind, body in of.items() if kind != "refused"}
            for kind, message in read_as.items():
                self.assertEqual((message["api"], message["provider"]),
                                 ("/v1/chat/completions", "service-of-apipark"), kind)
            words = {kind: [(status["provider"], status["status"]) for status in message["ai"]["ai_provider_statuses"]]
                     for kind, message in read_as.items()}
            self.assertEqual(words, {"plain": [("openai", "normal")], "streamed": [("openai", "normal")],
                                     "failed over": [("azure", "timeout"), ("openai", "normal")]})
            self.assertEqual(consumer.keys, {"key-of-openai": "normal", "key-of-azure": "error"})
            self.assertEqual(consumer.providers, {"openai": True, "azure": False})

            used = Counter()
            for (_, _, provider, model, _), (tokens, output, total) in consumer.uses.items():
                used += Counter({(provider, model, "input"): tokens, (provider, model, "output"): output})
                self.assertEqual(tokens + output, total)
            local.wait_for("a settlement of each", lambda: sum(row["requests"] for row in weir.usage("model")) == 3,
                           local.SETTLE_SECONDS)
            metered = {("openai", row["model"], kind): row[f"{kind}_tokens"]
                       for row in weir.usage("model") for kind in ("input", "output")}
            self.assertEqual(used, metered)
            self.assertGreater(min(metered.values()), 0)

            # APIPark cannot count what no key was used for, but it can read it.
            with self.assertRaisesRegex(KeyError, "Failed to increment AI key token: ''"):
                consumer.handle(of["refused"])
            refused = json.loads(of["refused"])
            self.assertEqual(refused["ai"]["ai_provider_statuses"], [])
            self.assertEqual(refused["ai"]["ai_model_total_token"], 0)

    def test_the_consumer_does_lose_what_apipark_loses(self):
        broken = {"ai": {"ai_model": "", "ai_provider": "", "ai_provider_statuses": ""}, "api": "a", "provider": "p",
                  "request_id": "r", "time_iso8601": "2025-10-15T10:11:32.421+08:00"}
        with self.assertRaisesRegex(TypeError, "into a list"):
            Consumer([]).handle(json.dumps(broken))

    def test_records_are_those_of_the_file(self):
        with local.Demo() as demo, Nsqd() as nsqd, gateway(demo, nsqd) as weir:
            asked = ask_each(weir)
            bodies = read(nsqd.tcp, TOPIC, "records", len(asked))
            self.assertEqual(nsqd.oddities, [])
            file = weir.configuration.parent / "data/records/records.jsonl"
            self.assertEqual(b"".join(body + b"\n" for body in bodies), file.read_bytes())
            self.assertEqual(sorted(json.loads(body)["id"] for body in bodies), sorted(id for _, id in asked.values()))
            # A second channel has them all again.
            self.assertEqual(read(nsqd.tcp, TOPIC, "others", 0), [], "it begins with what comes")
            _, id = ask(weir, CHAT)
            self.assertEqual(json.loads(read(nsqd.tcp, TOPIC, "others", 1)[0])["id"], id)

    def test_nothing_is_lost_while_nsqd_is_away(self):
        with local.Demo() as demo:
            away = Nsqd(local.free_port())
            with gateway(demo, away) as weir:
                ids = [ask(weir, CHAT)[1] for _ in range(20)]
                waiting = 'weir_sink_queue_events{sink="nsq"} '
                local.wait_for("records that wait", lambda: figure(weir, waiting) == 20, READ_SECONDS)
                with away as nsqd:
                    bodies = read(nsqd.tcp, TOPIC, "records", len(ids))
                    delivered = 'weir_sink_events_total{result="delivered",sink="nsq"} '
                    self.assertEqual((figure(weir, waiting), figure(weir, delivered)), (0, 20))
                    # Each thread of the gateway leaves its own in their order.
                    self.assertEqual(sorted(json.loads(body)["id"] for body in bodies), sorted(ids))
                    self.assertEqual(nsqd.oddities, [])

    def test_what_is_left_at_the_end_is_published(self):
        with local.Demo() as demo, Nsqd() as nsqd:
            with gateway(demo, nsqd, batch_wait="60s") as weir:
                ids = [ask(weir, CHAT)[1] for _ in range(5)]
            bodies = read(nsqd.tcp, TOPIC, "records", len(ids))
            self.assertEqual(sorted(json.loads(body)["id"] for body in bodies), sorted(ids))


class StandIn(unittest.TestCase):
    """The stand-in takes what nsqd takes, and no more."""

    def publish(self, nsqd, target, body):
        status, headers, answer = local.request(nsqd.http, "POST", target, body=body)
        self.assertEqual(headers["X-NSQ-Content-Type"], "nsq; version=1.0")
        return status, answer if status == 200 else json.loads(answer)["message"]

    def test_what_nsqd_refuses_is_refused_in_its_words(self):
        def number(*values):
            return struct.pack(f">{len(values)}i", *values)

        with Nsqd(max_message=100, max_body=1000) as nsqd:
            binary = f"/mpub?topic={TOPIC}&binary=true"
            for target, body, expected in [
                (binary, number(2, 1) + b"a" + number(2) + b"\nb", (200, b"OK")),
                (f"/mpub?topic={TOPIC}", b"a\n\nb\n", (200, b"OK")),
                (f"/pub?topic={TOPIC}", b"a\nb", (200, b"OK")),
                ("/mpub?topic=a%23ephemeral&binary=true", number(1, 1) + b"a", (200, b"OK")),
                ("/mpub", b"a", (400, "MISSING_ARG_TOPIC")),
                ("/mpub?topic=a%20b", b"a", (400, "INVALID_TOPIC")),
                (f"/mpub?topic={'a' * 65}", b"a", (400, "INVALID_TOPIC")),
                (f"/pub?topic={TOPIC}", b"", (400, "MSG_EMPTY")),
                (f"/pub?topic={TOPIC}", b"a" * 101, (413, "MSG_TOO_BIG")),
                (f"/mpub?topic={TOPIC}", b"a" * 101, (413, "MSG_TOO_BIG")),
                (f"/mpub?topic={TOPIC}", b"a" * 1001, (413, "BODY_TOO_BIG")),
                (binary, b"\0\0", (413, "BAD_BODY")),
                (binary, number(0), (413, "BAD_BODY")),
                (binary, number(200, 1) + b"a", (413, "BAD_BODY")),
                (binary, number(1, 0), (413, "BAD_MESSAGE")),
                (binary, number(1, 101) + b"a" * 101, (413, "BAD_MESSAGE")),
                (binary, number(1, 2) + b"a", (413, "BAD_MESSAGE")),
                (binary, number(2, 1) + b"a", (413, "BAD_MESSAGE")),
                ("/put", b"a", (404, "NOT_FOUND")),
            ]:
                self.assertEqual(self.publish(nsqd, target, body), expected, (target, body[:20]))
            self.assertEqual(local.request(nsqd.http, "GET", "/ping")[2], b"OK")
            self.assertEqual(local.request(nsqd.http, "GET", "/mpub")[0], 405)
            self.assertEqual(nsqd.oddities, [])
            self.assertEqual(self.publish(nsqd, binary, number(1, 1) + b"ab"), (200, b"OK"))
            self.assertEqual(nsqd.oddities, ["1 bytes behind the last message"])
            self.assertEqual(read(nsqd.tcp, TOPIC, "all", 6), [b"a", b"\nb", b"a", b"b", b"a\nb", b"a"])

    def test_what_is_not_finished_comes_again(self):
        async def twice(address):
            attempts, done = [], asyncio.Event()

            def take(message):
                attempts.append(message.attempts)
                if message.attempts == 2:
                    done.set()
                    return True
                return message.requeue(backoff=False, time_ms=10)

            reader = nsq.Reader(topic=TOPIC, channel="c", message_handler=take, nsqd_tcp_addresses=[address])
            await asyncio.wait_for(done.wait(), READ_SECONDS)
            reader.close()
            return attempts

        with Nsqd() as nsqd:
            local.request(nsqd.http, "POST", f"/pub?topic={TOPIC}", body=b"a")
            self.assertEqual(asyncio.run(twice(nsqd.tcp)), [1, 2])


if __name__ == "__main__":
    unittest.main()
