"""Clients that do not stop while a server is changed under them: long streams, a new connection for each request, and
connections that are used again and again. Every answer is looked at to its last byte.

Knows nothing of what is done to the server.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter

PATH = "/v1/chat/completions"
# A server that keeps a client waiting for longer has lost it.
PATIENCE = 60


class Cut(Exception):
    """An answer that is not whole."""


class Load:
    """`streams` clients that stream again and again, `fresh` that connect anew each time, `kept` that keep their
    connection, each after a `pause`. Within `with` they run; `outcome` is what happened to them."""

    def __init__(self, address: str, key: str, streams: int, fresh: int = 2, kept: int = 2, words: int = 20,
                 delay_ms: int = 100, pause: float = 0.005):
        self.host, port = address.rsplit(":", 1)
        self.port, self.key = int(port), key
        self.counts = {"stream": streams, "fresh": fresh, "kept": kept}
        self.pace = {"x-mock-words": str(words), "x-mock-delay-ms": str(delay_ms)}
        self.pause = pause
        self.open = 0
        self.done, self.refused, self.cut = Counter(), 0, 0
        self.hashes = Counter()
        self.errors = Counter()
        self.over = False

    def __enter__(self):
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()), daemon=True)
        self.thread.start()
        wanted = self.counts["stream"]
        deadline = time.monotonic() + PATIENCE
        while self.open < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.open} of {wanted} streams are open: {dict(self.errors)}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join(PATIENCE * 2)
        if self.thread.is_alive():
            self.cut += 1
            self.errors["never ended"] += 1

    @property
    def total(self) -> int:
        return sum(self.done.values())

    def told(self) -> str:
        kinds = f"{self.done['stream']} streams and {self.done['fresh'] + self.done['kept']} requests"
        told = f"{kinds}, {self.refused} refused, {self.cut} cut"
        return told + (f" ({', '.join(f'{n}× {what}' for what, n in self.errors.most_common(3))})" if self.errors else "")

    async def run(self):
        clients = {"stream": self.stream, "fresh": self.fresh, "kept": self.keep}
        await asyncio.gather(*(clients[kind](number) for kind, n in self.counts.items() for number in range(n)))

    async def stream(self, number: int):
        # Not all in the same instant.
        await asyncio.sleep(number * 0.002)
        while not self.over:
            await self.attempt("stream", self.once({"stream": True, "stream_options": {"include_usage": True}}, self.pace))

    async def fresh(self, number: int):
        while not self.over:
            await self.attempt("fresh", self.once({}, {}))
            await asyncio.sleep(self.pause)

    async def keep(self, number: int):
        connection = None
        while not self.over:
            async def again():
                nonlocal connection
                if connection is None:
                    connection = await self.connect()
                closes = await self.exchange(connection, {}, {}, close=False)
                if closes:
                    connection[1].close()
                    connection = None

            if not await self.attempt("kept", again()):
                connection = None
            await asyncio.sleep(self.pause)
        if connection:
            connection[1].close()

    async def attempt(self, kind: str, work) -> bool:
        try:
            await asyncio.wait_for(work, PATIENCE)
        except ConnectionRefusedError:
            self.refused += 1
        except (OSError, Cut, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            self.cut += 1
            self.errors[f"{kind}: {error or type(error).__name__}"[:90]] += 1
        else:
            self.done[kind] += 1
            return True
        await asyncio.sleep(0.05)
        return False

    async def once(self, fields: dict, headers: dict):
        connection = await self.connect()
        try:
            await self.exchange(connection, fields, headers, close=True)
        finally:
            connection[1].close()

    async def connect(self):
        return await asyncio.open_connection(self.host, self.port, limit=1 << 20)

    async def exchange(self, connection, fields: dict, headers: dict, close: bool) -> bool:
        """Whether the server ends the connection after it."""
        reader, writer = connection
        body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "count"}], **fields}).encode()
        lines = {"host": "trust", "authorization": f"Bearer {self.key}", "content-type": "application/json",
                 "content-length": str(len(body)), **headers, **({"connection": "close"} if close else {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode() + body)
        status, answer = await self.head(reader)
        if status != 200:
            raise Cut(f"status {status}")
        streams = bool(fields.get("stream"))
        self.open += streams
        try:
            whole = await self.body(reader, answer)
        finally:
            self.open -= streams
        if streams and not whole.endswith(b"data: [DONE]\n\n"):
            raise Cut("no end")
        self.hashes[hashlib.sha256(whole).hexdigest()] += 1
        return answer.get("connection", "").lower() == "close"

    async def head(self, reader):
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.rstrip().split("\r\n")
        return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in
                                       (line.partition(":") for line in lines)}

    async def body(self, reader, head: dict) -> bytes:
        if "content-length" in head:
            return await reader.readexactly(int(head["content-length"]))
        if head.get("transfer-encoding") != "chunked":
            raise Cut("no framing")
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return b"".join(pieces)


def verify(load: Load, entries: list[dict]) -> str:
    """What of the load the provider did not say; nothing, if all is as it was sent. `entries` are its ledger."""
    sent = Counter(entry["response_sha256"] for entry in entries)
    strange = sum((load.hashes - sent).values())
    return f"{strange} answers are not what the provider sent" if strange else ""
