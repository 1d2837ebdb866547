"""A stand-in for nsqd: publishing over HTTP, and consuming over TCP, with nsqd's own rules, limits, answers and words.

By nsqio/nsq at 3103474b: nsqd/http.go, nsqd/protocol_v2.go, nsqd/message.go, internal/protocol/names.go,
internal/http_api. What nsqd refuses is refused here. What it overlooks and nobody should send, such as bytes behind the
last message, is kept in `oddities`, which is empty in a test that passes. It keeps messages in memory, and knows
neither nsqlookupd, nor AUTH, nor TLS, nor compression, which it says to whoever asks for them.
"""

import asyncio
import json
import re
import struct
import threading
import time
from collections import deque
from urllib.parse import parse_qs, urlsplit

MAX_MESSAGE, MAX_BODY = 1024 * 1024, 5 * 1024 * 1024
MAX_RDY, MAX_HEARTBEAT_MS = 2500, 60_000
MESSAGE_TIMEOUT = 60
RESPONSE, ERROR, MESSAGE = 0, 1, 2
START_SECONDS = 10
NAME = re.compile(r"[.a-zA-Z0-9_-]+(#ephemeral)?")


def is_name(name):
    return 1 <= len(name) <= 64 and NAME.fullmatch(name) is not None


class Refused(Exception):
    """An answer over HTTP that is not 200."""

    def __init__(self, status, word):
        super().__init__(word)
        self.status, self.word = status, word


class Fatal(Exception):
    """An error of the protocol that ends a connection."""


class Failed(Exception):
    """One that does not."""


class Message:
    def __init__(self, number, body):
        self.id, self.body = b"%016x" % number, body
        self.timestamp, self.attempts = time.time_ns(), 0

    def frame(self):
        return struct.pack(">qH16s", self.timestamp, self.attempts, self.id) + self.body


class Channel:
    """What one group of consumers has still to read."""

    def __init__(self):
        self.ready = deque()
        self.more = asyncio.Condition()

    async def put(self, messages):
        async with self.more:
            self.ready.extend(messages)
            self.more.notify_all()


class Topic:
    """Messages wait in a topic until it has a channel; from then on every channel gets each."""

    def __init__(self):
        self.waiting, self.channels = [], {}

    async def put(self, messages):
        if not self.channels:
            self.waiting.extend(messages)
        for channel in self.channels.values():
            await channel.put([Message(int(message.id, 16), message.body) for message in messages])

    async def channel(self, name):
        if name not in self.channels:
            self.channels[name] = Channel()
            waiting, self.waiting = self.waiting, []
            await self.channels[name].put(waiting)
        return self.channels[name]


class Nsqd:
    """Runs on a thread of its own while it is entered. A port of 0 is any free one."""

    def __init__(self, http_port=0, max_message=MAX_MESSAGE, max_body=MAX_BODY):
        self.http_port, self.max_message, self.max_body = http_port, max_message, max_body
        self.topics, self.count, self.finished = {}, 0, 0
        self.oddities = []

    def __enter__(self):
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run(started)))
        self.thread.start()
        if not started.wait(START_SECONDS):
            raise TimeoutError("the stand-in for nsqd does not start")
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()

    async def _run(self, started):
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        self.connections = set()
        http = await asyncio.start_server(self._kept(self._http), "127.0.0.1", self.http_port, limit=1 << 16)
        tcp = await asyncio.start_server(self._kept(self._tcp), "127.0.0.1", 0, limit=1 << 16)
        self.http_port = http.sockets[0].getsockname()[1]
        self.http, self.tcp = (f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in (http, tcp))
        started.set()
        await self.stopped.wait()
        for server in (http, tcp):
            server.close()
        for task in list(self.connections):
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    def _kept(self, serve):
        async def connection(reader, writer):
            self.connections.add(asyncio.current_task())
            try:
                await serve(reader, writer)
            except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
                pass
            finally:
                self.connections.discard(asyncio.current_task())
                writer.close()

        return connection

    def topic(self, name):
        return self.topics.setdefault(name, Topic())

    def message(self, body):
        self.count += 1
        return Message(self.count, body)

    # HTTP

    async def _http(self, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").rstrip().split("\r\n")
            method, target, version = line.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if version != "HTTP/1.1" or "host" not in headers:
                self.oddities.append(line)
            goes_on = True
            try:
                status, kind, answer = 200, None, await self._answer(reader, method, target, headers)
            except Refused as refused:
                status, kind = refused.status, "application/json; charset=utf-8"
                answer = json.dumps({"message": refused.word}, separators=(",", ":")).encode()
                # What is left of a body is not looked for.
                goes_on = False
            said = [f"HTTP/1.1 {status} Said", "X-NSQ-Content-Type: nsq; version=1.0", f"Content-Length: {len(answer)}"]
            said += [f"Content-Type: {kind}"] if kind else []
            said += [] if goes_on else ["Connection: close"]
            writer.write("\r\n".join([*said, "", ""]).encode() + answer)
            await writer.drain()
            if not goes_on:
                return

    async def _answer(self, reader, method, target, headers):
        routes = {"/ping": "GET", "/pub": "POST", "/mpub": "POST"}
        url = urlsplit(target)
        if url.path not in routes:
            raise Refused(404, "NOT_FOUND")
        if method != routes[url.path]:
            raise Refused(405, "METHOD_NOT_ALLOWED")
        if url.path == "/ping":
            return b"OK"
        if "content-length" not in headers:
            self.oddities.append("a body without a length")
            raise Refused(411, "LENGTH_REQUIRED")
        length = int(headers["content-length"])
        multiple = url.path == "/mpub"
        if length > (self.max_body if multiple else self.max_message):
            raise Refused(413, "BODY_TOO_BIG" if multiple else "MSG_TOO_BIG")
        body = await reader.readexactly(length)
        if not multiple and not body:
            raise Refused(400, "MSG_EMPTY")
        query = parse_qs(url.query, keep_blank_values=True)
        if "topic" not in query:
            raise Refused(400, "MISSING_ARG_TOPIC")
        if not is_name(query["topic"][0]):
            raise Refused(400, "INVALID_TOPIC")
        bodies = [body] if not multiple else self._bodies(body, query.get("binary", ["false"])[0])
        await self.topic(query["topic"][0]).put([self.message(body) for body in bodies])
        return b"OK"

    def _bodies(self, body, binary):
        if binary in ("true", "1"):
            return self._read_mpub(body)
        if binary not in ("false", "0"):
            self.oddities.append(f"binary={binary} is deprecated")
            return self._read_mpub(body)
        bodies = [line for line in body.split(b"\n") if line]
        if any(len(line) > self.max_message for line in bodies):
            raise Refused(413, "MSG_TOO_BIG")
        return bodies

    def _read_mpub(self, body):
        at = 0

        def number(word):
            nonlocal at
            if len(body) < at + 4:
                raise Refused(413, word)
            at += 4
            return struct.unpack_from(">i", body, at - 4)[0]

        count, bodies = number("BAD_BODY"), []
        if not 0 < count <= (self.max_body - 4) // 5:
            raise Refused(413, "BAD_BODY")
        for _ in range(count):
            size = number("BAD_MESSAGE")
            if not 0 < size <= self.max_message or len(body) < at + size:
                raise Refused(413, "BAD_MESSAGE")
            bodies.append(body[at : at + size])
            at += size
        if at != len(body):
            self.oddities.append(f"{len(body) - at} bytes behind the last message")
        return bodies

    # TCP

    async def _tcp(self, reader, writer):
        client = Client(self, reader, writer)
        if await reader.readexactly(4) != b"  V2":
            return client.send(ERROR, b"E_BAD_PROTOCOL")
        try:
            await client.serve()
        finally:
            await client.leave()


class Client:
    """A consumer, or who publishes over TCP."""

    def __init__(self, nsqd, reader, writer):
        self.nsqd, self.reader, self.writer = nsqd, reader, writer
        self.channel, self.rdy, self.in_flight = None, 0, {}
        self.heartbeat, self.identified, self.closing = 30.0, False, False
        self.pumps = []

    def send(self, kind, data):
        self.writer.write(struct.pack(">II", len(data) + 4, kind) + data)

    async def serve(self):
        beat = asyncio.create_task(self._beat())
        self.pumps.append(beat)
        while True:
            # Who says nothing for two heartbeats is gone.
            silence = self.heartbeat * 2 if self.heartbeat else None
            try:
                line = await asyncio.wait_for(self.reader.readuntil(b"\n"), silence)
            except (asyncio.TimeoutError, asyncio.IncompleteReadError):
                return
            name, *params = line.rstrip(b"\r\n").split(b" ")
            try:
                command = self.COMMANDS.get(name)
                if command is None:
                    raise Fatal(f"E_INVALID invalid command {name.decode('latin-1')}")
                answer = await command(self, params)
                if answer is not None:
                    self.send(RESPONSE, answer)
            except Failed as failed:
                self.send(ERROR, str(failed).encode())
            except Fatal as fatal:
                self.nsqd.oddities.append(str(fatal))
                return self.send(ERROR, str(fatal).encode())
            await self.writer.drain()

    async def leave(self):
        for pump in self.pumps:
            pump.cancel()
        await asyncio.gather(*self.pumps, return_exceptions=True)
        if self.channel:
            await self.channel.put(message for message, _ in self.in_flight.values())

    async def _beat(self):
        while True:
            before = self.heartbeat
            await asyncio.sleep(self.heartbeat or 1)
            if self.heartbeat and self.heartbeat == before:
                self.send(RESPONSE, b"_heartbeat_")

    async def _pump(self):
        """Sends messages while the client is ready for more than it has in hand."""
        channel = self.channel
        while True:
            async with channel.more:
                await channel.more.wait_for(lambda: channel.ready and len(self.in_flight) < self.rdy)
                message = channel.ready.popleft()
                message.attempts += 1
                timer = asyncio.get_running_loop().call_later(MESSAGE_TIMEOUT, self._time_out, message.id)
                self.in_flight[message.id] = (message, timer)
            self.send(MESSAGE, message.frame())
            await self.writer.drain()

    def _time_out(self, id):
        if id in self.in_flight:
            message, _ = self.in_flight.pop(id)
            self.pumps.append(asyncio.create_task(self.channel.put([message])))

    async def _look(self):
        async with self.channel.more:
            self.channel.more.notify_all()

    async def _body(self, word, what, limit):
        size = struct.unpack(">i", await self.reader.readexactly(4))[0]
        if not 0 < size <= limit:
            raise Fatal(f"{word} {what} invalid body size {size}")
        return await self.reader.readexactly(size)

    async def identify(self, _):
        if self.channel or self.identified:
            raise Fatal("E_INVALID cannot IDENTIFY in current state")
        try:
            data = json.loads(await self._body("E_BAD_BODY", "IDENTIFY", self.nsqd.max_body))
            beat = data.get("heartbeat_interval", 0)
        except (ValueError, AttributeError):
            raise Fatal("E_BAD_BODY IDENTIFY failed to decode JSON body") from None
        if type(beat) is not int or not (beat in (-1, 0) or 1000 <= beat <= MAX_HEARTBEAT_MS):
            raise Fatal(f"E_BAD_BODY IDENTIFY heartbeat interval ({beat}) is invalid")
        self.identified = True
        if beat:
            self.heartbeat = 0 if beat == -1 else beat / 1000
            self.pumps.pop().cancel()
            self.pumps.append(asyncio.create_task(self._beat()))
        if not data.get("feature_negotiation"):
            return b"OK"
        return json.dumps({
            "max_rdy_count": MAX_RDY, "version": "1.3.0", "max_msg_timeout": 900_000,
            "msg_timeout": MESSAGE_TIMEOUT * 1000, "tls_v1": False, "deflate": False, "deflate_level": 6,
            "max_deflate_level": 6, "snappy": False, "sample_rate": 0, "auth_required": False,
            "output_buffer_size": 16384, "output_buffer_timeout": 250, "topology_region": "", "topology_zone": "",
        }).encode()

    async def sub(self, params):
        if self.channel:
            raise Fatal("E_INVALID cannot SUB in current state")
        if not self.heartbeat:
            raise Fatal("E_INVALID cannot SUB with heartbeats disabled")
        if len(params) < 2:
            raise Fatal("E_INVALID SUB insufficient number of parameters")
        topic, channel = (name.decode("latin-1") for name in params[:2])
        if not is_name(topic):
            raise Fatal(f'E_BAD_TOPIC SUB topic name "{topic}" is not valid')
        if not is_name(channel):
            raise Fatal(f'E_BAD_CHANNEL SUB channel name "{channel}" is not valid')
        self.channel = await self.nsqd.topic(topic).channel(channel)
        self.pumps.append(asyncio.create_task(self._pump()))
        return b"OK"

    async def ready(self, params):
        self._subscribed("RDY")
        count = self._number(params[0], "RDY could not parse count") if params else 1
        if count > MAX_RDY:
            raise Fatal(f"E_INVALID RDY count {count} out of range 0-{MAX_RDY}")
        self.rdy = 0 if self.closing else count
        await self._look()

    async def finish(self, params):
        self._take("FIN", params, 1)
        self.nsqd.finished += 1
        await self._look()

    async def requeue(self, params):
        message = self._take("REQ", params, 2)
        delay = self._number(params[1], "REQ could not parse timeout") / 1000

        async def later():
            await asyncio.sleep(delay)
            await self.channel.put([message])

        self.pumps.append(asyncio.create_task(later()))

    async def touch(self, params):
        self._subscribed("TOUCH")
        if not params or params[0] not in self.in_flight:
            raise Failed(f"E_TOUCH_FAILED TOUCH {params} failed ID not in flight")

    async def close(self, _):
        self._subscribed("CLS")
        self.closing, self.rdy = True, 0
        return b"CLOSE_WAIT"

    async def nop(self, _):
        return None

    async def publish(self, params):
        if not params or not is_name(params[0].decode("latin-1")):
            raise Fatal("E_BAD_TOPIC PUB topic name is not valid")
        body = await self._body("E_BAD_MESSAGE", "PUB", self.nsqd.max_message)
        await self.nsqd.topic(params[0].decode()).put([self.nsqd.message(body)])
        return b"OK"

    COMMANDS = {
        b"IDENTIFY": identify, b"SUB": sub, b"RDY": ready, b"FIN": finish, b"REQ": requeue, b"TOUCH": touch,
        b"CLS": close, b"NOP": nop, b"PUB": publish,
    }

    def _subscribed(self, command):
        if not self.channel:
            raise Fatal(f"E_INVALID cannot {command} in current state")

    def _take(self, command, params, count):
        self._subscribed(command)
        if len(params) < count:
            raise Fatal(f"E_INVALID {command} insufficient number of params")
        if len(params[0]) != 16:
            raise Fatal("E_INVALID invalid message ID")
        if params[0] not in self.in_flight:
            raise Failed(f"E_{command}_FAILED {command} {params[0].decode()} failed ID not in flight")
        message, timer = self.in_flight.pop(params[0])
        timer.cancel()
        return message

    @staticmethod
    def _number(text, what):
        if not text.isdigit():
            raise Fatal(f"E_INVALID {what} {text.decode('latin-1')}")
        return int(text)
