"""Upstreams, clients and rivals for the tests of the edge.

Knows nothing of what a check demands.
"""

import asyncio
import resource
import socket
import threading
import time
from pathlib import Path

from .servers import KEY, HaProxy, Nginx

# A byte of the body for every client, so that no two answers are alike in length only.
PLAIN = b'{"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
CHAT = b'{"model":"gpt-4o","messages":[]}'
STREAM = b'{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}'


class Provider:
    """An upstream on a thread of its own: plain answers after `delay`, streams of `event` with `interval` between two,
    until `most` bytes have gone (then they stay open), and `large` bytes for a GET."""

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
                    self.plain(writer, b"x" * self.large if head.startswith(b"GET ") and self.large else PLAIN)
                    await writer.drain()
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

    def plain(self, writer: asyncio.StreamWriter, body: bytes):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

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
    `connections` than it has descriptors for, two each; 0: as many as there are."""
    server = HaProxy(upstream, limits)
    most = connections or min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 200)
    path = Path(server.folder.name, "haproxy.cfg")
    path.write_text(path.read_text().replace("maxconn 20000", f"maxconn {most}", 1))
    if files:
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
