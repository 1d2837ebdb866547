"""Upstreams, clients and rivals for the tests of the edge.

Knows nothing of what a check demands.
"""

import asyncio
import csv
import re
import select
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import h2.config
import h2.connection
import h2.settings

from .servers import KEY, HaProxy, Nginx, program

# A byte of the body for every client, so that no two answers are alike in length only.
PLAIN = b'{"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
LARGE_PIECE = 64 * 1024
CHAT = b'{"model":"gpt-4o","messages":[]}'
STREAM = b'{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}'


class Provider:
    """An upstream on a thread of its own: plain answers after `delay`, streams of `event` with `interval` between two,
    until `most` bytes have gone (then they stay open), and `large` bytes for a GET, in pieces."""

    def __init__(self, delay: float = 0.0, event: bytes = b"", interval: float = 0.0, most: int = 1 << 40, large: int = 0):
        self.delay, self.event, self.interval, self.most, self.large = delay, event, interval, most, large

    def __enter__(self):
        ready = threading.Event()
        self.loop = asyncio.new_event_loop()

        def run():
            asyncio.set_event_loop(self.loop)
            self.server = self.loop.run_until_complete(
                asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=4096, limit=1 << 20))
            self.address = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
            ready.set()
            self.loop.run_forever()
            # What is still open ends with the loop.
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0.05))

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        if not ready.wait(10):
            raise RuntimeError("the upstream does not start")
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await self.body(head.lower(), reader)
                if b'"stream":true' in body:
                    await self.stream(writer)
                else:
                    await asyncio.sleep(self.delay)
                    await self.plain(writer, self.large if head.startswith(b"GET ") else 0)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, ValueError):
            pass
        finally:
            writer.close()

    async def body(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        if b"\r\ntransfer-encoding: chunked" in head:
            whole = b""
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                whole += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readuntil(b"\r\n")
            return whole
        lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        return await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""

    async def plain(self, writer: asyncio.StreamWriter, large: int):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % large if large else head % len(PLAIN) + PLAIN)
        for _ in range(large // LARGE_PIECE):
            writer.write(b"x" * LARGE_PIECE)
            await writer.drain()

    async def stream(self, writer: asyncio.StreamWriter):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk, sent = b"%x\r\n%s\r\n" % (len(self.event), self.event), 0
        while True:
            if sent < self.most:
                writer.write(chunk)
                sent += len(chunk)
                await writer.drain()
            if writer.is_closing():
                return
            await asyncio.sleep(self.interval if sent < self.most else 1.0)


def ask(body: bytes = CHAT, lines: str = "") -> bytes:
    """A request for a chat, whole."""
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
    ).encode() + body


def connect(address: str, source: str = "", receive: int = 0, segment: int = 0, timeout: float = 10) -> socket.socket:
    """A connection; from the address `source`, with a receive buffer of `receive` bytes, in segments of `segment` bytes: the
    other side's buffer grows with these, and on this machine they would be of 64 KiB."""
    host, port = address.rsplit(":", 1)
    stream = socket.socket()
    stream.settimeout(timeout)
    if receive:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    if segment:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
    if source:
        stream.bind((source, 0))
    stream.connect((host, int(port)))
    return stream


def streams_of_http2(address: str, streams: int) -> socket.socket:
    """A connection of HTTP/2 with so many requests for streams on it, whose client grants the largest windows there are, and
    then reads nothing."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
    client.increment_flow_control_window(2**31 - 1 - 65_535)
    for _ in range(streams):
        identifier = client.get_next_available_stream_id()
        client.send_headers(identifier, [
            (":method", "POST"), (":path", "/v1/chat/completions"), (":scheme", "http"), (":authority", "weir"),
            ("authorization", f"Bearer {KEY}"), ("content-type", "application/json"), ("content-length", str(len(STREAM))),
        ])
        client.send_data(identifier, STREAM, end_stream=True)
    stream = connect(address)
    stream.sendall(client.data_to_send())
    return stream


def answer(stream: socket.socket) -> tuple[int, bytes]:
    """The next answer, which says its length: its status and its body. 0: there was none."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            more = stream.recv(65536)
            if not more:
                return 0, data
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        while len(body) < length:
            more = stream.recv(65536)
            if not more:
                return 0, body
            body += more
        return int(head.split(b" ")[1]), body
    except OSError:
        return 0, data


class Client:
    """A client with one connection that it keeps, and makes anew when it is closed."""

    def __init__(self, address: str, source: str = ""):
        self.address, self.source, self.stream = address, source, None

    def ask(self, request: bytes = ask()) -> tuple[int, float]:
        """A request: its status (0: none came) and how many seconds it took."""
        begun = time.monotonic()
        try:
            if self.stream is None:
                self.stream = connect(self.address, self.source)
            self.stream.sendall(request)
            status = answer(self.stream)[0]
        except OSError:
            status = 0
        if status == 0:
            self.close()
        return status, time.monotonic() - begun

    def close(self):
        if self.stream is not None:
            self.stream.close()
        self.stream = None


def readable(streams: list[socket.socket]) -> int:
    """How many of them have something to read."""
    waiting = select.poll()
    for stream in streams:
        waiting.register(stream, select.POLLIN)
    return len(waiting.poll(0))


def quantile(values: list[float], part: float) -> float:
    """The value below which that part of them is."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def nginx(upstream: str, limits: str = "", http: str = "", files: int = 0) -> Nginx:
    """nginx with more directives for its server and for all, and with no more than `files` descriptors."""
    server = Nginx(upstream, limits)
    path = Path(server.folder.name, "nginx.conf")
    text = path.read_text().replace("http {", f"http {{\n    {http}", 1)
    if files:
        text = text.replace("worker_rlimit_nofile 65536", f"worker_rlimit_nofile {files}")
        server.command = limited(files) + server.command
    path.write_text(text)
    return server


def haproxy(upstream: str, limits: str = "", files: int = 0, connections: int = 0) -> HaProxy:
    """HAProxy with more lines for its frontend, and with no more than `files` descriptors. It does not start with more
    `connections` than it has descriptors for, two each."""
    server = HaProxy(upstream, limits)
    if files:
        path = Path(server.folder.name, "haproxy.cfg")
        path.write_text(re.sub(r"maxconn \d+", f"maxconn {connections}", path.read_text(), count=1))
        server.command = limited(files) + server.command
    return server


def limited(files: int) -> list[str]:
    """The words in front of a command that may have so many descriptors."""
    return ["prlimit", f"--nofile={files}:{files}", "--"]


def metric(weir, series: str) -> float:
    """The value of a series of Weir's."""
    lines = [line for line in weir.metrics().splitlines() if line.startswith(f"{series} ")]
    return float(lines[0].split(" ")[1]) if lines else 0.0


def until(look, seconds: float, step: float = 0.1) -> float | None:
    """After how many seconds `look` was true; `None`: not in time."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if look():
            return time.monotonic() - begun
        time.sleep(step)
    return None


class slowhttptest:  # noqa: N801: it is the program's name
    """slowhttptest, running; its figures are read from its own file."""

    def __init__(self, words: list):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-trust-")
        self.child = subprocess.Popen(
            [program("slowhttptest"), "-g", "-o", f"{self.folder.name}/slow", "-p", "3", *map(str, words)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=self.folder.name,
        )

    def __enter__(self):
        return self

    def left_after(self, seconds: int) -> int:
        """How many of its connections were still open so many seconds after the start. It ends when none is."""
        self.child.wait(120)
        rows = list(csv.DictReader(Path(self.folder.name, "slow.csv").open()))
        rows = [{name.strip().lower(): int(value) for name, value in row.items()} for row in rows]
        after = [row["connected"] for row in rows if row["seconds"] >= seconds]
        if not any(row["connected"] for row in rows):
            raise RuntimeError("slowhttptest has opened nothing")
        return after[0] if after else 0

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.terminate()
            self.child.wait(20)
        self.folder.cleanup()
