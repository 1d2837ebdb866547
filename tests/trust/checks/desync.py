"""Whether a request can be hidden in another one."""

import concurrent.futures
import re
import socket
import time
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from ..board import Outcome, Run, check
from ..load import Provider, ask, connect, haproxy, metric, nginx
from ..recorder import Recorder, Seen
from ..servers import KEY, Weir, resident_kib
from ..shapes import ACCEPTABLE, COMPLIANT, Shape, all_shapes, chunks, hidden, request

# How many servers are asked at once, each by itself.
SERVERS = 4
# How long a client waits for its first answer, and for one more.
FIRST, NEXT = 0.5, 0.12

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass
class Verdict:
    shape: Shape
    # How many answers there were, and whether they came of the request being understood.
    answers: int
    understood: bool
    served: bool
    # What is wrong; empty: nothing.
    desync: str


@check(
    22,
    "HTTP/1 smuggling shapes",
    how="253 requests that two readers could understand in two ways, and their harmless neighbours, written to raw sockets "
        "(`tests/trust/shapes.py`, by the classes of http_desync_guardian); the upstream keeps what arrives and reads it by "
        "the letter of RFC 9112: it may see no request that was framed as a body, none more than were answered, and no "
        "framing that could be read in two ways",
    demand="0 desynchronised; nothing compliant refused",
)
def smuggling(run: Run) -> Outcome:
    shapes = all_shapes()
    figure, found, strange = judged(shapes, lambda upstream: Weir(upstream))
    refused = [verdict.shape.name for verdict in found if verdict.shape.kind == COMPLIANT and not verdict.understood]
    rivals = {}
    if run.long:
        for name, make in [("nginx", nginx), ("HAProxy", haproxy)]:
            rivals[name] = judged(shapes, make)[0]
    note = "; ".join(strange[:8])
    if refused:
        note = f"compliant and refused: {', '.join(refused)}; {note}"
    return Outcome(not strange and not refused, figure, rivals, note)


def judged(shapes: list[Shape], make) -> tuple[str, list[Verdict], list[str]]:
    """All shapes at servers of a kind: the figure, the verdicts, and those that went wrong."""

    def some(share: list[Shape]) -> list[Verdict]:
        with Recorder() as recorder, make(recorder.address) as server:
            # What a start looks at is no part of it.
            recorder.take()
            return [judge(shape, server.address, recorder) for shape in share]

    with concurrent.futures.ThreadPoolExecutor(SERVERS) as pool:
        verdicts = [one for part in pool.map(some, [shapes[n::SERVERS] for n in range(SERVERS)]) for one in part]
    strange = [f"{verdict.shape.name}: {verdict.desync}" for verdict in verdicts if verdict.desync]
    harmless = [verdict.served for verdict in verdicts if verdict.shape.kind in (COMPLIANT, ACCEPTABLE)]
    others = [verdict.served for verdict in verdicts if verdict.shape.kind not in (COMPLIANT, ACCEPTABLE)]
    figure = (f"{len(strange)} of {len(verdicts)} desynchronised; of the harmless {sum(harmless)} of {len(harmless)} passed on, "
              f"of the others {sum(others)} of {len(others)}")
    return figure, verdicts, strange


def judge(shape: Shape, address: str, recorder: Recorder) -> Verdict:
    answered = exchange(address, shape.data)
    seen = recorder.take()
    statuses = [int(status) for status in STATUS.findall(answered) if not status.startswith(b"1")]
    heads = [head for connection in seen for head in connection.heads]
    # A refusal of the protocol that is asked in is said by whoever has understood the request.
    understood = bool(heads) or (b"application/json" in answered and b"nginx" not in answered)
    return Verdict(shape, len(statuses), understood, bool(heads), fault(shape, len(statuses), seen, heads))


def fault(shape: Shape, answers: int, seen: list[Seen], heads: list[bytes]) -> str:
    ambiguous = [connection.ambiguous for connection in seen if connection.ambiguous]
    if ambiguous:
        return f"the upstream got {ambiguous[0]}"
    if shape.never and any(b"x-hidden" in head.lower() for head in heads):
        return "the upstream saw the hidden request"
    if len(heads) > max(answers, 1):
        return f"the upstream saw {len(heads)} requests, the client got {answers} answers"
    return ""


def exchange(address: str, data: bytes) -> bytes:
    """What a client gets that writes these bytes and waits for a while."""
    got = b""
    try:
        with connect(address) as stream:
            try:
                stream.sendall(data)
            except OSError:
                # Refused before all was written; what was said is read all the same.
                pass
            stream.settimeout(FIRST)
            while more := stream.recv(65536):
                got += more
                stream.settimeout(NEXT)
    except OSError:
        pass
    return got


@check(
    23,
    "the shapes of Pingora's advisories",
    how="CVE-2025-4366 (a body that is left unread), -2025-8671 (streams that the server has to reset), -2026-2833 (an upgrade "
        "before its answer), -2026-2835 (codings in HTTP/1.0 and several codings), -2026-2836 (one answer for two hosts), "
        "written to raw sockets",
    demand="none has its effect",
)
def advisories(run: Run) -> Outcome:
    failed = []
    with Recorder() as recorder, Weir(recorder.address) as weir:
        for name, data in old_shapes().items():
            answered = exchange(weir.address, data)
            heads = [head for connection in recorder.take() for head in connection.heads]
            if any(b"x-hidden" in head.lower() for head in heads):
                failed.append(f"{name}: a hidden request was served")
            # What is answered twice was read as two requests.
            if len([status for status in STATUS.findall(answered) if status != b"100"]) > 1:
                failed.append(f"{name}: two answers")
        hosts = [request(b"GET /v1/files HTTP/1.1", b"", host=b"host: %s\r\n" % host) for host in (b"a.example", b"b.example")]
        for data in hosts:
            exchange(weir.address, data)
        if sum(len(connection.heads) for connection in recorder.take()) != 2:
            failed.append("CVE-2026-2836: an answer was given twice")
    resets, grown = made_you_reset(run.many(20_000, 2_000))
    if grown > 20_000:
        failed.append(f"CVE-2025-8671: {grown} KiB more")
    count = len(old_shapes()) + 2
    figure = f"{count - len(failed)} of {count} without effect; {resets} resets before the connection ended, {grown} KiB more"
    return Outcome(not failed, figure, note="; ".join(failed))


def old_shapes() -> dict[str, bytes]:
    inside, body = hidden(), b'{"model":"gpt-4o"}'
    line = b"POST /v1/chat/completions HTTP/1.1"
    length = b"content-length: %d\r\n" % len(inside)
    return {
        "CVE-2025-4366, a list of models": request(b"GET /v1/models HTTP/1.1", length, inside),
        "CVE-2025-4366, a refusal": line + b"\r\nhost: w\r\n" + length + b"\r\n" + inside,
        "CVE-2025-4366, chunks": request(b"GET /v1/models HTTP/1.1", b"transfer-encoding: chunked\r\n", chunks(inside)),
        "CVE-2026-2833, any upgrade": request(line, b"connection: upgrade\r\nupgrade: foo\r\n" + length, inside),
        "CVE-2026-2833, without a length": request(b"GET /v1/files HTTP/1.1", b"connection: close, upgrade\r\nupgrade: foo\r\n", inside),
        "CVE-2026-2833, h2c": request(b"GET /v1/files HTTP/1.1", b"connection: close, upgrade\r\nupgrade: h2c\r\n", inside),
        "CVE-2026-2835, HTTP/1.0": request(line.replace(b"1.1", b"1.0"), b"transfer-encoding: chunked\r\n", chunks(body) + inside),
        "CVE-2026-2835, HTTP/1.0 and a list": request(
            line.replace(b"1.1", b"1.0"), b"connection: keep-alive\r\ntransfer-encoding: identity, chunked\r\ncontent-length: 29\r\n",
            b"0\r\n\r\n" + inside),
        "CVE-2026-2835, a list": request(line, b"transfer-encoding: identity, chunked\r\ncontent-length: 0\r\n", b"0\r\n\r\n" + inside),
        "CVE-2026-2835, two lines": request(
            line, b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n" + inside),
        "CVE-2026-2835, both framings": request(line, b"transfer-encoding: chunked\r\n" + length, b"0\r\n\r\n" + inside),
    }


def made_you_reset(attempts: int) -> tuple[int, int]:
    """Streams of HTTP/2 that are opened and then have an error that the server must answer with a reset, which frees their
    places before their work is done: how many went through before the connection ended, and how many KiB Weir has grown."""
    with Provider(delay=5) as provider, Weir(provider.address) as weir:
        with connect(weir.address) as warm:
            warm.sendall(ask())
        before, done = resident_kib(weir), 0
        with connect(weir.address, timeout=2) as stream:
            client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
            client.initiate_connection()
            stream.sendall(client.data_to_send())
            headers = [(":method", "POST"), (":path", "/v1/chat/completions"), (":scheme", "http"), (":authority", "w"),
                       ("x-api-key", KEY), ("content-length", "9")]
            try:
                for number in range(attempts):
                    identifier = client.get_next_available_stream_id()
                    client.send_headers(identifier, headers)
                    # An increment of zero is an error of the stream (RFC 9113, 6.9).
                    zero = b"\x00\x00\x04\x08\x00" + identifier.to_bytes(4, "big") + b"\x00\x00\x00\x00"
                    stream.sendall(client.data_to_send() + zero)
                    # The client's own state forgets what the server will reset.
                    client.reset_stream(identifier)
                    client.clear_outbound_data_buffer()
                    done = number + 1
                    stream.setblocking(False)
                    try:
                        if stream.recv(65536) == b"":
                            break
                    except BlockingIOError:
                        pass
                    finally:
                        stream.settimeout(2)
            except (OSError, h2.exceptions.H2Error, socket.timeout):
                pass
            time.sleep(0.3)
            grown = max(resident_kib(weir) - before, 0)
            if metric(weir, "weir_requests_in_flight") > 200:
                grown = max(grown, 1 << 20)
    return done, grown
