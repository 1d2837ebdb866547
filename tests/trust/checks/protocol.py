"""HTTP/2 that no library would send, streams of events, and what must pass byte for byte."""

import json
import os
import random
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import local

from .. import cargo, http2, sides, wire
from ..board import Outcome, Run, Unable, check
from ..floods import FLOODS
from ..http2 import Connection, Ended, frame, head
from ..servers import resident_kib
from ..sides import BODY, CHAT, STREAMED

# Octets and runs of them that end a line, a word or a name for somebody.
DELIMITERS = [b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b"\x0b", b"\x0c", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8", b" ",
              b"\t", b":", b": ", b",", b";", b"\x7f", b" HTTP/1.1\r\n", b"%0d%0a", b"\r\n ", b"\n ", b"\xff", b"#", b"?"]
MARK = b"x-injected"
SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: smuggled\r\nx-injected: 1\r\ncontent-length: 0\r\n\r\n"


def crooked(key: str) -> list[tuple[str, list[tuple[bytes, bytes]], bytes]]:
    """Requests that RFC 9113 calls malformed, and some that only look it: name, fields, body."""
    plain = head(key, len(BODY))
    cases = [
        ("transfer-encoding", [*head(key), (b"transfer-encoding", b"chunked")], b"0\r\n\r\n" + SMUGGLED),
        ("transfer-encoding beside a length", [*plain, (b"transfer-encoding", b"chunked")], BODY),
        ("a name that hides transfer-encoding", [*head(key), (b"x-a: 1\r\ntransfer-encoding", b"chunked")], b"0\r\n\r\n" + SMUGGLED),
        ("a value that hides transfer-encoding", [*head(key), (b"x-a", b"1\r\ntransfer-encoding: chunked")], b"0\r\n\r\n" + SMUGGLED),
        ("connection", [*plain, (b"connection", b"close, x-injected"), (b"x-hop", b"1")], BODY),
        ("keep-alive", [*plain, (b"keep-alive", b"timeout=5")], BODY),
        ("proxy-connection", [*plain, (b"proxy-connection", b"close")], BODY),
        ("upgrade", [*plain, (b"upgrade", b"websocket"), (b"connection", b"upgrade")], BODY),
        ("te: gzip", [*plain, (b"te", b"gzip")], BODY),
        ("te: trailers", [*plain, (b"te", b"trailers")], BODY),
        ("upper case", [*plain, (b"X-Upper", b"1")], BODY),
        ("an empty name", [*plain, (b"", b"x-injected: 1")], BODY),
        ("a name of a colon", [*plain, (b":", b"x-injected: 1")], BODY),
        ("an unknown pseudo-header", [(b":injected", b"1"), *plain], BODY),
        ("a pseudo-header of an answer", [(b":status", b"200"), *plain], BODY),
        ("a pseudo-header after a field", [*plain, (b":path", b"/v1/models")], BODY),
        ("the same length twice", [*plain, (b"content-length", b"%d" % len(BODY))], BODY),
        ("two lengths", [*plain, (b"content-length", b"0")], BODY),
        ("a list of lengths", [*head(key), (b"content-length", b"%d, 0" % len(BODY))], BODY),
        ("a length below the body", head(key, 2), b"{}" + SMUGGLED),
        ("a length of nothing before a body", head(key, 0), SMUGGLED),
        ("a length above the body", head(key, len(BODY) + 50), BODY),
        ("a length and no body", head(key, 50), b""),
        ("a length below zero", [*head(key), (b"content-length", b"-1")], BODY),
        ("a length with a sign", [*head(key), (b"content-length", b"+%d" % len(BODY))], BODY),
        ("a length in hex", [*head(key), (b"content-length", b"0x10")], BODY),
        ("a length beyond 64 bits", [*head(key), (b"content-length", b"9" * 30)], BODY),
        ("a request for a body", head(key, len(SMUGGLED)), SMUGGLED),
        ("another host", [*plain, (b"host", b"x-injected")], BODY),
        ("two hosts", [*plain, (b"host", b"weir.test"), (b"host", b"x-injected")], BODY),
        ("no method", head(key, len(BODY), method=None), BODY),
        ("no path", head(key, len(BODY), path=None), BODY),
        ("no scheme", head(key, len(BODY), scheme=None), BODY),
        ("no authority", head(key, len(BODY), authority=None), BODY),
        ("an empty path", head(key, len(BODY), path=b""), BODY),
        ("an empty method", head(key, len(BODY), method=b""), BODY),
        ("a path of *", head(key, len(BODY), path=b"*"), BODY),
        ("a path without /", head(key, len(BODY), path=b"v1/chat/completions"), BODY),
        ("a whole URL", head(key, len(BODY), path=b"http://x-injected/v1/chat/completions"), BODY),
        ("a user in the authority", head(key, len(BODY), authority=b"x-injected@weir.test"), BODY),
        ("a path in the authority", head(key, len(BODY), authority=b"weir.test/x-injected"), BODY),
        ("CONNECT", [(b":method", b"CONNECT"), (b":authority", b"127.0.0.1:22")], b""),
        ("extended CONNECT", [*head(key, None, method=b"CONNECT"), (b":protocol", b"websocket")], b""),
        ("a method with a target", head(key, len(BODY), method=b"POST /v1/chat/completions HTTP/1.1\r\nx-injected: 1\r\n\r\nGET"), BODY),
        ("cookies in crumbs", [*plain, (b"cookie", b"a=1"), (b"cookie", b"b=2\r\nx-injected: 1")], BODY),
        ("300 fields", [*plain, *((b"x-%d" % n, b"1") for n in range(300))], BODY),
        ("a field of 60 KiB", [*plain, (b"x-long", b"a" * 15_000)] + [(b"x-l%d" % n, b"a" * 15_000) for n in range(3)], BODY),
        ("a length in a name", [*head(key), (b"content-length: 0\r\nx-a", b"1")], SMUGGLED),
        ("an expectation", [*plain, (b"expect", b"100-continue")], BODY),
        ("settings in a field", [*plain, (b"http2-settings", b"AAMAAABkAARAAAAAAAIAAAAA")], BODY),
    ]
    cases += [(f"two of {name.decode()}", [(name, value), *plain], BODY) for name, value in plain[:4]]
    return cases


def swept(key: str, octets: list[bytes]) -> list[tuple[str, list[tuple[bytes, bytes]], bytes]]:
    """Each of these before a line of one's own, in every place that a field has."""
    cases = []
    for octet in octets:
        places = {
            "value": [*head(key, len(BODY)), (b"x-a", b"1" + octet + MARK + b": 1")],
            "a value's end": [*head(key, len(BODY)), (b"x-a", b"1" + octet)],
            "a value's begin": [*head(key, len(BODY)), (b"x-a", octet + MARK + b": 1")],
            "name": [*head(key, len(BODY)), (b"x-a" + octet + MARK, b"1")],
            "path": head(key, len(BODY), path=CHAT.encode() + octet + MARK + b": 1"),
            "query": head(key, len(BODY), path=CHAT.encode() + b"?a=1" + octet + MARK + b": 1"),
            "method": head(key, len(BODY), method=b"POST" + octet + MARK),
            "authority": head(key, len(BODY), authority=b"weir.test" + octet + MARK),
            "scheme": head(key, len(BODY), scheme=b"http" + octet + MARK),
        }
        cases += [(f"{octet!r} in {place}", fields, BODY) for place, fields in places.items()]
    return cases


def downgraded(side: sides.Side, upstream: wire.Upstream, cases) -> tuple[int, int, list[str]]:
    """How many were served, how many refused, and which brought a line of their own to the upstream."""
    served, refused, injected = 0, 0, []
    for name, fields, body in cases:
        upstream.forget()
        try:
            with Connection(side.http2, timeout=3) as connection:
                stream = connection.stream()
                connection.send(connection.head(fields, stream, end=not body))
                if body:
                    connection.send(frame(http2.DATA, http2.END_STREAM, stream, body))
                status, _ = connection.answer(stream, 3)
        except (Ended, TimeoutError):
            status = 0
        if 200 <= status < 300:
            served += 1
        else:
            refused += 1
        injected += [f"{name}: {what}" for seen in upstream.seen() if (what := foreign(seen))]
    return served, refused, injected


def foreign(seen: bytes) -> str | None:
    """What in the bytes of an upstream's connection nobody has sent as a field of its own."""
    at, requests = 0, 0
    while at < len(seen):
        end = seen.find(b"\r\n\r\n", at)
        if end < 0:
            return f"the rest {seen[at:at + 60]!r} is no request"
        lines = seen[at:end].split(b"\r\n")
        if lines[0].count(b" ") != 2:
            return f"the line {lines[0][:80]!r}"
        for line in lines:
            parts = line.replace(b"\r", b"\n").replace(b"\0", b"\n").split(b"\n")
            if len(parts) > 1 or (line is not lines[0] and line.lower().startswith(MARK)):
                return f"the line {line[:80]!r}"
        named = [line.split(b":")[0].lower() for line in lines[1:]]
        if named.count(b"content-length") > 1 or (b"content-length" in named and b"transfer-encoding" in named):
            return "two framings"
        requests += 1
        if requests > 1:
            return f"a second request {lines[0][:60]!r}"
        try:
            whole = wire.request_end(seen, at)
        except ValueError:
            return "a framing that is none"
        if whole is None:
            return None
        at = whole
    return None


@check(
    24,
    "HTTP/2 to HTTP/1.1",
    how="heads and bodies that RFC 9113 calls malformed, and each octet before a line of one's own in names, values, path, "
    "method, authority and scheme, written frame by frame; the upstream keeps every byte that it gets",
    demand="0 lines at the upstream that nobody sent as a field",
)
def downgrade(run: Run) -> Outcome:
    few = [*range(33), 0x2C, 0x3A, 0x3B, 0x7F, 0x80, 0x85, 0xA0, 0xFF]
    octets = [bytes([octet]) for octet in (range(256) if run.long else few)]
    octets += [run_of for run_of in DELIMITERS if len(run_of) > 1]
    figures, rivals, first = "", {}, []
    sides_of = [sides.weir, sides.nginx, sides.haproxy] if run.long else [sides.weir]
    passed = True
    for open_side in sides_of:
        with wire.Upstream() as upstream, open_side(upstream.address) as side:
            cases = crooked(side.key) + swept(side.key, octets)
            # Before all else: a plain one is served, or nothing is tested.
            well, _, _ = downgraded(side, upstream, [("plain", head(side.key, len(BODY)), BODY)])
            if well != 1:
                return Outcome(False, f"{side.name} does not serve a plain request")
            served, refused, injected = downgraded(side, upstream, cases)
            figure = f"{len(injected)} injected by {len(cases)} requests ({refused} refused)"
            if side.name == "Weir":
                figures, passed, first = figure, not injected, injected
                side.process.still_runs()
            else:
                rivals[side.name] = figure + (f", as {injected[0]}" if injected else "")
    return Outcome(passed, figures, rivals, note="; ".join(first[:3]))


# At a time, of one kind.
FLOODERS = 4
MOST_KIB = 50 * 1024


class GoodTraffic:
    """One client that asks again and again while others misbehave."""

    def __init__(self, side: sides.Side):
        self.side, self.stop = side, threading.Event()
        self.asked, self.failed, self.slowest = 0, 0, 0.0

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def run(self):
        while not self.stop.is_set():
            begun = time.monotonic()
            try:
                status = wire.ask(self.side.address, wire.post(CHAT, self.side.key, BODY), timeout=5)[0]
            except (OSError, wire.Broken, ValueError):
                status = 0
            self.asked += 1
            self.failed += status != 200
            self.slowest = max(self.slowest, time.monotonic() - begun)
            time.sleep(0.01)


def flooded(side: sides.Side, seconds: float) -> dict:
    """What all floods, one after the other, do to one side."""
    for _ in range(50):
        wire.ask(side.address, wire.post(CHAT, side.key, BODY))
    before = resident_kib(side.process)
    worst, whose, frames, failed, asked, slowest = 0, "", 0, 0, 0, 0.0
    for flood in FLOODS:
        stop, sent = threading.Event(), []

        def attack():
            while not stop.is_set():
                try:
                    with Connection(side.http2, timeout=1) as connection:
                        sent.append(flood(connection, side, stop))
                except (Ended, OSError):
                    time.sleep(0.01)

        with GoodTraffic(side) as good:
            threads = [threading.Thread(target=attack) for _ in range(FLOODERS)]
            for thread in threads:
                thread.start()
            until_then = time.monotonic() + seconds
            while time.monotonic() < until_then:
                time.sleep(0.1)
                more = resident_kib(side.process) - before
                if more > worst:
                    worst, whose = more, flood.__name__
            stop.set()
            for thread in threads:
                thread.join()
        frames += sum(sent)
        failed, asked, slowest = failed + good.failed, asked + good.asked, max(slowest, good.slowest)
    side.process.still_runs()
    return {"worst": worst, "whose": whose, "frames": frames, "failed": failed, "asked": asked, "slowest": slowest}


@check(
    25,
    "HTTP/2 floods",
    how="rapid resets, resets that the server is made to send, CONTINUATION without end and empty, empty and tiny DATA, "
    "SETTINGS, PING, PRIORITY, header bombs, windows closed and opened by single octets: four connections of each kind, one "
    "kind after the other, while another client asks on HTTP/1.1",
    demand="memory + < 50 MiB, and the other client's requests all succeed",
)
def floods(run: Run) -> Outcome:
    seconds = 8 if run.long else 0.8
    figures, rivals, passed, note = "", {}, False, ""
    with local.Demo() as demo:
        for open_side in [sides.weir, sides.nginx, sides.haproxy] if run.long else [sides.weir]:
            with open_side(demo.mock, demo.mock_key) as side:
                seen = flooded(side, seconds)
            figure = (f"+ {seen['worst'] / 1024:.0f} MiB by {len(FLOODS)} floods of {seconds} s, {seen['frames']:,} frames; "
                      f"{seen['failed']} of {seen['asked']} good requests failed, the slowest took {seen['slowest'] * 1000:.0f} ms")
            if side.name == "Weir":
                figures, passed = figure, seen["worst"] < MOST_KIB and seen["failed"] == 0
                note = f"most memory under {seen['whose']}" if seen["whose"] else ""
            else:
                rivals[side.name] = figure
    return Outcome(passed, figures, rivals, note)


@check(
    26,
    "fuzzing",
    how="cargo-fuzz on the parsers of event streams, JSON, request bodies, the configuration and the journal, and on what is "
    "recorded of bodies: `make fuzz` with 60 s each; 600 s each is its default",
    demand="0 crashes",
    short=False,
)
def fuzz(run: Run) -> Outcome:
    seconds = os.environ.get("WEIR_TRUST_FUZZ_SECONDS", "60")
    done = subprocess.run(["make", "fuzz", f"FUZZ_SECONDS={seconds}"], cwd=local.ROOT, capture_output=True, text=True, timeout=7200)
    output = done.stdout + done.stderr
    runs = [int(number) for number in re.findall(r"^Done (\d+) runs in \d+ second", output, re.M)]
    crashes = len(re.findall(r"^==\d+== ?ERROR|SUMMARY: libFuzzer|panicked at", output, re.M))
    figure = f"{len(runs)} targets, {seconds} s each, {sum(runs):,} runs, {crashes} crashes"
    return Outcome(done.returncode == 0 and len(runs) == 7 and crashes == 0, figure, note="" if done.returncode == 0 else output[-300:])


@check(
    27,
    "event streams read as others read them",
    how="each recorded stream and some that are crooked, split at every octet, read by Weir's scanner; the same read by httpx-sse",
    demand="the same events from every split, and from the other reader",
    short=False,
)
def split_oracle(run: Run) -> Outcome:
    try:
        import httpx
        import httpx_sse
    except ImportError as lacking:
        raise Unable(f"{lacking}: tests/setup.sh trust") from lacking
    with tempfile.TemporaryDirectory(prefix="weir-trust-") as folder:
        written = Path(folder, "events.json")
        outcome = cargo.tests("every_split_of_every_fixture", "-p weir-filters --test splits", {"WEIR_TRUST_SPLITS": str(written)})
        if not outcome.passed:
            return outcome
        read = json.loads(written.read_text())
    streams, events, differ = 0, 0, []
    for name, fixture in read.items():
        body = bytes.fromhex(fixture["stream"])
        response = httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=body)
        # An event without data is none to a browser; httpx-sse gives it all the same.
        others = [[event.event, event.data] for event in httpx_sse.EventSource(response).iter_sse() if event.data]
        own = [[event or "message", data] for event, data in fixture["events"] if data]
        streams, events = streams + 1, events + len(own)
        if own != others:
            differ.append(f"{name}: {len(own)} and {len(others)} events")
    return Outcome(not differ, f"{outcome.figure}; {events} events of {streams} streams, {len(differ)} streams differ",
                   note="; ".join(differ[:3]))


@check(
    28,
    "byte transparency",
    how="streams and answers of every protocol over each HTTP, plain and compressed, cut into pieces of any size: the mock "
    "provider's SHA-256 of what it sent against the client's of what it got",
    demand="equal for every one",
    short=False,
)
def transparency(run: Run) -> Outcome:
    return cargo.tests("answers_pass_byte_for_byte", "--test it", {"WEIR_TRUST_STREAMS": "10000"})


@check(
    29,
    "clients that leave",
    how="clients that close their connection at any moment of a stream, where answers are read on for them and where they are not",
    demand="every request settled once, every place given back",
    short=False,
)
def leavers(run: Run) -> Outcome:
    return cargo.tests("clients_that_leave_at_any_moment", "--test it", {"WEIR_TRUST_LEAVERS": "10000"})
