"""HTTP/2 frame by frame: a client that sends what no library would.

Uses the frames and the header compression of python's `h2`, and none of its rules.
"""

import socket
import struct
import time

from hpack import Decoder, Encoder

from .sides import CHAT
from .wire import dial

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(**values: int) -> bytes:
    ids = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "list": 6}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", ids[name], value) for name, value in values.items()))


def literal(name: bytes, value: bytes, indexed: bool = False) -> bytes:
    """A field as RFC 7541 writes it in full; `indexed`: it is entered into the table too."""

    def text(octets: bytes) -> bytes:
        if len(octets) < 127:
            return bytes([len(octets)]) + octets
        length, rest = b"\x7f", len(octets) - 127
        while rest >= 128:
            length, rest = length + bytes([rest % 128 + 128]), rest // 128
        return length + bytes([rest]) + octets

    return (b"\x40" if indexed else b"\x00") + text(name) + text(value)


class Ended(Exception):
    """The other side has ended the connection, or the stream. Says how."""


class Connection:
    """A connection whose frames are written by hand."""

    def __init__(self, address: str, timeout: float = 5, **values: int):
        self.socket = dial(address, timeout)
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.buffer = b""
        self.next = 1
        self.send(PREFACE + settings(**values))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data: bytes):
        try:
            self.socket.sendall(data)
        except socket.timeout:
            raise
        except OSError as error:
            raise Ended(f"closed: {error}") from error

    def stream(self) -> int:
        self.next += 2
        return self.next - 2

    def head(self, fields, stream: int, end: bool = True) -> bytes:
        """A head in one frame."""
        block = self.encoder.encode([(name, value) for name, value in fields], huffman=False)
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)

    def receive(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, stream, payload."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                piece = self.socket.recv(65536)
            except socket.timeout as late:
                raise TimeoutError("no frame") from late
            except OSError as error:
                raise Ended(f"closed: {error}") from error
            if not piece:
                raise Ended("closed")
            self.buffer += piece
        length = int.from_bytes(self.buffer[:3], "big")
        kind, flags = self.buffer[3], self.buffer[4]
        stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
        payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
        return kind, flags, stream, payload

    def answer(self, stream: int, seconds: float = 5) -> tuple[int, bytes]:
        """The answer on a stream: status and body. Raises [`Ended`] if there is none."""
        status, body, deadline = 0, b"", time.monotonic() + seconds
        while time.monotonic() < deadline:
            kind, flags, of, payload = self.receive()
            if kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.send(frame(PING, ACK, 0, payload))
            elif kind == GOAWAY and int.from_bytes(payload[4:8], "big") != 0:
                raise Ended(f"GOAWAY {int.from_bytes(payload[4:8], 'big')}")
            elif kind == RST_STREAM and of == stream:
                if status and int.from_bytes(payload, "big") == 0:
                    return status, body
                raise Ended(f"RST_STREAM {int.from_bytes(payload, 'big')}")
            elif kind == HEADERS and of == stream:
                if flags & 8:
                    payload = payload[1:len(payload) - payload[0]]
                if flags & 0x20:
                    payload = payload[5:]
                fields = {bytes_of(name): bytes_of(value) for name, value in self.decoder.decode(payload, raw=True)}
                said = int(fields.get(b":status", b"0"))
                status = said if said >= 200 else status
            elif kind == DATA and of == stream:
                body += payload
                if payload:
                    update = struct.pack(">I", len(payload))
                    self.send(frame(WINDOW_UPDATE, 0, 0, update) + frame(WINDOW_UPDATE, 0, stream, update))
            if of == stream and kind in (HEADERS, DATA) and flags & END_STREAM and status:
                return status, body
        raise TimeoutError("no end of the answer")


def bytes_of(text) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def head(key: str, length: int | None = None, **over: bytes | None) -> list[tuple[bytes, bytes]]:
    """A request's fields as a library would send them; `over` replaces pseudo-headers, or leaves them out."""
    pseudo = {"method": b"POST", "scheme": b"http", "authority": b"weir.test", "path": CHAT.encode(), **over}
    fields = [(b":" + name.encode(), value) for name, value in pseudo.items() if value is not None]
    fields += [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    return fields + ([(b"content-length", b"%d" % length)] if length is not None else [])
