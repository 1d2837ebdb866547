"""HTTP/1.1 as bytes: a client that sends anything, an upstream that keeps every byte and says what it is told, and a
link between two that can be made faulty.

Knows nothing of what is tested with them.
"""

import asyncio
import contextlib
import logging
import random
import socket
import struct
import threading
import time

# What a client waits for at most, where no check says otherwise.
PATIENCE = 5
MAX_HEAD = 4 << 20


def dial(address: str, timeout: float = PATIENCE) -> socket.socket:
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def everything(connection: socket.socket, seconds: float) -> bytes:
    """What comes until the end of the connection, or for so long."""
    read, deadline = bytearray(), time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            piece = connection.recv(65536)
        except OSError:
            break
        if not piece:
            break
        read += piece
    return bytes(read)


class Broken(Exception):
    """An answer that is not one, or does not come."""


class Reader:
    """Reads answers one after the other from a connection."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.buffer = b""

    def more(self):
        try:
            piece = self.connection.recv(65536)
        except socket.timeout as late:
            raise TimeoutError("no answer") from late
        except OSError as error:
            raise Broken(str(error)) from error
        if not piece:
            raise Broken("closed")
        self.buffer += piece

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self.more()
        head, self.buffer = self.buffer[:end].decode("latin-1"), self.buffer[end + 4:]
        line, *fields = head.split("\r\n")
        try:
            status = int(line.split(" ")[1])
        except (IndexError, ValueError) as error:
            raise Broken(f"no status in {line[:40]!r}") from error
        return status, [tuple(field.split(": ", 1)) if ": " in field else (field, "") for field in fields]

    def answer(self, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
        status, fields = self.head()
        while 100 <= status < 200:
            status, fields = self.head()
        headers = {name.lower(): value for name, value in fields}
        if method == "HEAD" or status in (204, 304):
            return status, headers, b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return status, headers, self.chunks()
        if "content-length" in headers:
            length = int(headers["content-length"])
            while len(self.buffer) < length:
                self.more()
            body, self.buffer = self.buffer[:length], self.buffer[length:]
            return status, headers, body
        body = self.buffer
        with contextlib.suppress(Broken):
            while True:
                self.more()
        body, self.buffer = self.buffer, b""
        return status, headers, body

    def chunks(self) -> bytes:
        body = b""
        while True:
            while (end := self.buffer.find(b"\r\n")) < 0:
                self.more()
            size, self.buffer = int(self.buffer[:end], 16), self.buffer[end + 2:]
            while len(self.buffer) < size + 2:
                self.more()
            body, self.buffer = body + self.buffer[:size], self.buffer[size + 2:]
            if size == 0:
                return body


def ask(address: str, request: bytes, method: str = "POST", timeout: float = PATIENCE):
    """One request on a connection of its own: status, headers and body."""
    with dial(address, timeout) as connection:
        connection.sendall(request)
        return Reader(connection).answer(method)


def post(path: str, key: str, body: bytes, lines: str = "") -> bytes:
    return (f"POST {path} HTTP/1.1\r\nhost: weir.test\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            f"{lines}content-length: {len(body)}\r\n\r\n").encode("latin-1") + body


class Upstream:
    """An upstream that keeps all bytes of each connection. `script(number, connection)` answers the request of that
    number, from 0; without one each is answered with `{}`. A script that returns True leaves the connection open."""

    OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    def __init__(self, script=None, host: str = "127.0.0.1", port: int = 0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(512)
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.script = script
        self.lock = threading.Lock()
        self.requests = 0
        # The bytes of each connection, as they came, and how many of them are forgotten.
        self.connections: list[bytearray] = []
        self.forgotten: list[int] = []

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kept = bytearray()
        with self.lock:
            self.connections.append(kept)
            self.forgotten.append(0)
        begun = 0
        # What cannot be read as a request ends its connection.
        with connection, contextlib.suppress(OSError, ValueError):
            while True:
                while (end := request_end(kept, begun)) is None:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    kept += piece
                begun = end
                with self.lock:
                    number = self.requests
                    self.requests += 1
                if self.script is None:
                    connection.sendall(self.OK)
                elif not self.script(number, connection):
                    return

    def forget(self):
        with self.lock:
            self.forgotten = [len(kept) for kept in self.connections]

    def seen(self) -> list[bytes]:
        """What came since it last forgot, by connection."""
        with self.lock:
            return [bytes(kept[past:]) for kept, past in zip(self.connections, self.forgotten) if len(kept) > past]


def reset(connection: socket.socket):
    """Closes with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def request_end(data: bytes | bytearray, begun: int) -> int | None:
    """Where the request that begins at `begun` ends; None while it is not whole."""
    head = data.find(b"\r\n\r\n", begun)
    if head < 0:
        return None
    fields = bytes(data[begun:head]).lower().split(b"\r\n")[1:]
    at = head + 4
    if any(field.startswith(b"transfer-encoding:") for field in fields):
        while True:
            line = data.find(b"\r\n", at)
            if line < 0:
                return None
            size = int(bytes(data[at:line]).split(b";")[0], 16)
            at = line + 2 + size + 2
            if at > len(data):
                return None
            if size == 0:
                return at
    for field in fields:
        if field.startswith(b"content-length:"):
            at += int(field.split(b":", 1)[1])
    return at if at <= len(data) else None


class Link:
    """A proxy for TCP that does harm: `harm` is called with each request that begins on a connection, and says what
    the bytes of it suffer, or of its answer; without one, nothing."""

    def __init__(self, target: str):
        self.target = target
        self.harm = lambda: None
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        if not self.ready.wait(PATIENCE):
            raise TimeoutError("the link does not start")
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)

    def run(self):
        asyncio.set_event_loop(self.loop)
        # What is left of a connection when the link ends is no news.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        server = self.loop.run_until_complete(asyncio.start_server(self.connect, "127.0.0.1", 0, backlog=512))
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.loop.close()

    async def connect(self, reader, writer):
        host, port = self.target.rsplit(":", 1)
        try:
            there, to = await asyncio.open_connection(host, int(port))
        except OSError:
            abort(writer)
            return
        exchange = Exchange()
        both = [self.pump(reader, to, writer, exchange, up=True), self.pump(there, writer, to, exchange, up=False)]
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await asyncio.gather(*both)
        writer.close()
        to.close()

    async def pump(self, reader, writer, back, exchange, up):
        try:
            while data := await reader.read(16384):
                if up and data.startswith(b"POST "):
                    exchange.harm, exchange.passed = self.harm(), {True: 0, False: 0}
                before = exchange.passed[up]
                exchange.passed[up] += len(data)
                harm = exchange.harm
                if harm is None or harm.up != up:
                    writer.write(data)
                elif harm.kind == "latency":
                    await asyncio.sleep(harm.seconds)
                    writer.write(data)
                elif harm.kind == "slices":
                    await slices(writer, data)
                elif before + len(data) <= harm.after:
                    writer.write(data)
                elif not await struck(reader, writer, back, harm, data, max(0, harm.after - before), exchange):
                    return
                await writer.drain()
        except (ConnectionError, OSError):
            abort(back)
            return
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


class Exchange:
    """A request on a connection, and how many bytes of it have passed each way."""

    def __init__(self):
        self.harm = None
        self.passed = {True: 0, False: 0}


async def slices(writer, data: bytes):
    at = 0
    while at < len(data):
        size = random.randint(1, 5)
        writer.write(data[at:at + size])
        await writer.drain()
        await asyncio.sleep(0)
        at += size


async def struck(reader, writer, back, harm, data: bytes, whole: int, exchange) -> bool:
    """What happens at the octet. Whether the connection goes on after it."""
    writer.write(data[:whole])
    await writer.drain()
    if harm.kind == "pause":
        exchange.harm = None
        await asyncio.sleep(harm.seconds)
        writer.write(data[whole:])
        return True
    if harm.kind == "reset":
        abort(writer)
        abort(back)
    elif harm.kind == "close":
        writer.close()
        back.close()
    else:
        # Nothing more passes this way, and nobody is told.
        while await reader.read(16384):
            pass
        await asyncio.sleep(3600)
    return False


class Harm:
    """What befalls bytes: `up` are those to the server, else those to the client."""

    def __init__(self, kind: str, up: bool, after: int = 0, seconds: float = 0.05):
        self.kind, self.up, self.after, self.seconds = kind, up, after, seconds

    def __str__(self):
        way = "to the server" if self.up else "to the client"
        return f"{self.kind} {way} after {self.after} bytes"


def abort(writer):
    with contextlib.suppress(Exception):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
