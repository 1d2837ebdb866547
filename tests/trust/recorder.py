"""An upstream that keeps exactly what it is sent, and reads it as the letter of RFC 9112 says.

Knows nothing of who sends it.
"""

import re
import socket
import threading
import time
from dataclasses import dataclass, field

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
# How long a connection is listened to after an answer: what a proxy took for a body comes at once.
LINGER = 0.06
# How long half a request is waited for.
PATIENCE = 1.0

FIRST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[01]")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})((?:;[\t\x20-\x7e]*)?)")


class Ambiguous(Exception):
    """Bytes that are no request, or one that could be read in two ways."""


@dataclass
class Seen:
    """What one connection brought."""

    data: bytes = b""
    heads: list[bytes] = field(default_factory=list)
    # What was wrong with it.
    ambiguous: str = ""


class Recorder:
    """The upstream, on a free port."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.lock, self.seen, self.open = threading.Lock(), [], 0
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def take(self) -> list[Seen]:
        """What has come since this was asked last, once no connection is open."""
        until = time.monotonic() + PATIENCE + 1
        while self.open and time.monotonic() < until:
            time.sleep(0.005)
        with self.lock:
            seen, self.seen = self.seen, []
        return seen

    def accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            seen = Seen()
            with self.lock:
                self.seen.append(seen)
                self.open += 1
            threading.Thread(target=self.serve, args=(stream, seen), daemon=True).start()

    def serve(self, stream: socket.socket, seen: Seen):
        read = 0
        try:
            stream.settimeout(PATIENCE)
            while True:
                more = stream.recv(65536)
                if not more:
                    break
                seen.data += more
                while (length := whole(seen.data[read:])) is not None:
                    seen.heads.append(seen.data[read:].split(b"\r\n\r\n")[0])
                    read += length
                    stream.sendall(ANSWER)
                    stream.settimeout(LINGER)
        except Ambiguous as reason:
            seen.ambiguous = str(reason)
        except OSError:
            pass
        finally:
            stream.close()
            with self.lock:
                self.open -= 1


def whole(data: bytes) -> int | None:
    """How long the first request is; `None` if it is not whole yet."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        # What cannot become a line of a head any more is not waited for.
        if re.search(rb"[^\r]\n|\r[^\n]|^\n|\x00", data):
            raise Ambiguous("a bare line end")
        return None
    lines = data[:end].split(b"\r\n")
    if not FIRST_LINE.fullmatch(lines[0]):
        raise Ambiguous(f"no first line: {lines[0][:60]!r}")
    headers = [HEADER.fullmatch(line) for line in lines[1:]]
    if not all(headers):
        raise Ambiguous(f"no header: {next(line for line, good in zip(lines[1:], headers) if not good)[:60]!r}")

    def values(name):
        return [match[2].strip() for match in headers if match[1].lower().replace(b"_", b"-") == name]

    lengths, codings = values(b"content-length"), values(b"transfer-encoding")
    if len(values(b"host")) != 1:
        raise Ambiguous("not one host")
    if len(lengths) + len(codings) > 1:
        raise Ambiguous("more than one framing")
    body = data[end + 4:]
    if codings:
        if codings[0].lower() != b"chunked" or lines[0].endswith(b"1.0"):
            raise Ambiguous(f"a coding that is not chunked: {codings[0]!r}")
        length = chunked(body)
        return None if length is None else end + 4 + length
    if lengths and not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise Ambiguous(f"no length: {lengths[0]!r}")
    length = int(lengths[0]) if lengths else 0
    return end + 4 + length if len(body) >= length else None


def chunked(body: bytes) -> int | None:
    """How long a body in chunks is; `None` if it is not whole yet."""
    at = 0
    while True:
        end = body.find(b"\n", at)
        if end < 0:
            return None
        line = CHUNK.fullmatch(body[at:end - 1]) if body[at:end + 1].endswith(b"\r\n") else None
        if line is None:
            raise Ambiguous(f"no chunk: {body[at:end + 1][:60]!r}")
        at, size = end + 1, int(line[1], 16)
        if size == 0:
            break
        if len(body) < at + size + 2:
            return None
        if body[at + size:at + size + 2] != b"\r\n":
            raise Ambiguous("a chunk without its end")
        at += size + 2
    # Trailers, up to an empty line.
    while True:
        end = body.find(b"\n", at)
        if end < 0:
            return None
        line = body[at:end + 1]
        if line == b"\r\n":
            return end + 1
        if not line.endswith(b"\r\n") or not HEADER.fullmatch(line[:-2]):
            raise Ambiguous(f"no trailer: {line[:60]!r}")
        at = end + 1
