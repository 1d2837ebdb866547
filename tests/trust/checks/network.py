"""Networks that delay, cut and swallow, and upstreams that lie."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import local

from .. import sides, wire
from ..board import Outcome, Run, check
from ..sides import BODY, CHAT, STREAMED
from ..wire import Harm

# Of each wait for the upstream, in seconds, and what a client may wait beyond it.
LIMIT = 1
SLACK = 1
PATIENT = {"timeouts": {"connect": f"{LIMIT}s", "first_byte": f"{LIMIT}s", "idle": f"{LIMIT}s"},
           "retry": {"attempts": 1}, "cooldown": {"failures": 1000, "for": "1s"}}
# Requests that are made at a time.
TOGETHER = 24


def harms(count: int, draw: random.Random) -> list[Harm | None]:
    """Every kind in both directions, at octets drawn by lot."""
    kinds = ["reset", "close", "blackhole", "latency", "slices", "pause"]
    seconds = {"latency": [0.005, 0.02], "pause": [0.1, 0.5]}
    drawn = [(draw.choice(kinds), draw.random() < 0.5, int(draw.expovariate(1 / 300))) for _ in range(count)]
    edges = [(kind, up, after) for kind in kinds for up in (True, False) for after in (0, 1, 200)]
    return [None, *(Harm(*one, draw.choice(seconds.get(one[0], [0]))) for one in edges + drawn)]


def through(side: sides.Side, link: wire.Link, address: str, suffered: list, patience: float = 8) -> tuple[int, float]:
    """Asks once under each harm: how many broke off, and the longest wait."""
    lock, waiting = threading.Lock(), list(suffered)
    random.Random(7).shuffle(waiting)

    def harm():
        with lock:
            return waiting.pop() if waiting else None

    link.harm = harm
    waits, failed = [], []

    def ask(number: int):
        begun = time.monotonic()
        body = STREAMED if number % 2 else BODY
        try:
            status = wire.ask(address, wire.post(CHAT, side.key, body, "connection: close\r\n"), timeout=patience)[0]
        except (OSError, wire.Broken, ValueError):
            status = 0
        took = time.monotonic() - begun
        with lock:
            waits.append(took)
            if status != 200:
                failed.append(status)

    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(ask, range(len(suffered))))
    link.harm = lambda: None
    return len(failed), max(waits)


def figure(metrics: str, name: str) -> float:
    """The sum of a metric's series."""
    lines = [line for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@check(
    20,
    "network faults",
    how="a link between client and gateway, then one between gateway and upstream, that delays, slices, pauses, resets, closes "
    "or swallows from an octet drawn by lot on, in either direction; each wait for the upstream is limited to 1 s",
    demand="0 clients wait for more than 1 s beyond that limit, and every request is settled once",
)
def faults(run: Run) -> Outcome:
    suffered = harms(run.many(1500, 40), random.Random(20))
    with local.Demo() as demo, wire.Link(demo.mock) as behind:
        with sides.weir(behind.address, demo.mock_key, PATIENT) as side:
            upstream_failed, longest = through(side, behind, side.address, suffered)
            with wire.Link(side.address) as before:
                # What is swallowed on the way to the client is the client's own loss: it gives up by itself.
                mild = [harm for harm in suffered if harm is None or harm.kind != "blackhole"]
                client_failed, longest_client = through(side, before, before.address, mild)
                swallowed = [harm for harm in suffered if harm is not None and harm.kind == "blackhole"][:TOGETHER]
                through(side, before, before.address, swallowed, patience=2)
            gauges = ["weir_channel_inflight", "weir_streams_active", "weir_drains_active"]
            deadline = time.monotonic() + 5
            while any(figure(side.process.metrics(), name) for name in gauges) and time.monotonic() < deadline:
                time.sleep(0.05)
            left = sum(figure(side.process.metrics(), name) for name in gauges)
            # Each attempt that was made is in the totals once; they are folded in the background.
            made = figure(side.process.metrics(), "weir_upstream_attempts_total")
            settled = 0
            while (settled := sum(row["requests"] for row in side.process.usage("channel") if row["channel"])) != made and time.monotonic() < deadline + 5:
                time.sleep(0.05)
            side.process.still_runs()
        rivals = {}
        for open_side in [sides.nginx, sides.haproxy] if run.long else []:
            with open_side(behind.address, demo.mock_key, LIMIT) as rival:
                failed, wait = through(rival, behind, rival.address, suffered)
                rivals[rival.name] = f"before the upstream: the longest wait was {wait:.1f} s ({failed} of {len(suffered)} failed)"
    slowest = max(longest, longest_client)
    passed = slowest <= LIMIT + SLACK and left == 0 and made == settled and upstream_failed > 0 and client_failed > 0
    text = (f"{2 * len(suffered)} requests, the longest wait {slowest:.2f} s, {made - settled:.0f} of {made:.0f} attempts unsettled, "
            f"{left:.0f} in flight afterwards; {upstream_failed} and {client_failed} broke off")
    return Outcome(passed, text, rivals)


TRUTH = b'{"truth":true}'
FORGED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"forged\": true}"


def said(*pieces: bytes, pause: float = 0.0):
    """Says this, with a pause between the pieces, and stays."""

    def lie(connection):
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(pause)
            connection.sendall(piece)
        return True

    # Until then nobody can tell what follows from the answer to the next request.
    lie.lasts = 2 * pause
    return lie


def cut(*pieces: bytes, reset: bool = False):
    """Says this and leaves."""

    def lie(connection):
        for piece in pieces:
            connection.sendall(piece)
        if reset:
            time.sleep(0.02)
            wire.reset(connection)
        return False

    return lie


def endless(head: bytes, piece: bytes, seconds: float = 2.0):
    """Says the same for so long, or until nobody listens."""

    def lie(connection):
        until = time.monotonic() + seconds
        connection.sendall(head)
        while time.monotonic() < until:
            connection.sendall(piece * 100)
        return False

    return lie


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
LIES = {
    "a length that is one too short": said(OK + b"content-length: 13\r\n\r\n" + TRUTH),
    "a length that is one too long": cut(OK + b"content-length: 15\r\n\r\n" + TRUTH),
    "a length that is one too long, and silence": said(OK + b"content-length: 15\r\n\r\n" + TRUTH),
    "a short length before a forged answer": said(OK + b"content-length: 14\r\n\r\n" + TRUTH + FORGED),
    "a forged answer a little later": said(OK + b"content-length: 14\r\n\r\n" + TRUTH, FORGED, pause=0.05),
    "chunks before a forged answer": said(OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + FORGED),
    "both framings": said(OK + b"content-length: 60\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + FORGED),
    "two lengths": said(OK + b"content-length: 14\r\ncontent-length: 2\r\n\r\n" + TRUTH),
    "a length below zero": said(OK + b"content-length: -1\r\n\r\n" + TRUTH),
    "a length with a sign": said(OK + b"content-length: +14\r\n\r\n" + TRUTH + FORGED),
    "a size of a chunk that is none": said(OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n" + FORGED),
    "a size of a chunk that is too large": said(OK + b"transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "a chunk without its end": cut(OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"),
    "an end in the head": cut(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "an end at once": cut(),
    "a reset at once": cut(reset=True),
    "a reset in the body": cut(OK + b"content-length: 100\r\n\r\n{", reset=True),
    "no content, and content": said(b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED),
    "not modified, and content": said(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 16\r\n\r\n" + FORGED),
    "an upgrade that nobody asked for": said(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + FORGED),
    "no HTTP at all": said(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "a head with bare line feeds": said(b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}" + FORGED),
    "a NUL in the head": said(OK + b"x-a: \0\r\ncontent-length: 2\r\n\r\n{}"),
    "a folded line": said(OK + b"x-a: 1\r\n content-length: 0\r\ncontent-length: 2\r\n\r\n{}"),
    "fifty interim answers": said(b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + OK + b"content-length: 14\r\n\r\n" + TRUTH),
    "interim answers without end": endless(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    "a head of 2 MiB": cut(OK + b"x-long: " + b"a" * (2 << 20) + b"\r\ncontent-length: 2\r\n\r\n{}"),
    "a head without end": endless(OK, b"x-many: 1\r\n"),
    "trailers without end": endless(OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"x-many: 1\r\n"),
    "an extension of a chunk without end": endless(OK + b"transfer-encoding: chunked\r\n\r\n2;", b"aaaaaaaaaa"),
}


class Liar:
    """An upstream that lies when it is told to, and else says the truth."""

    def __init__(self):
        self.lie = None

    def __call__(self, _number, connection) -> bool:
        lie, self.lie = self.lie, None
        if lie is not None:
            return lie(connection)
        connection.sendall(OK + b"content-length: %d\r\n\r\n" % len(TRUTH) + TRUTH)
        return True


def poisoned(side: sides.Side, liar: Liar, rounds: int) -> tuple[int, list[str], list[str]]:
    """How many lies were told; which of them another request got to feel; and who waited too long."""
    told, poison, hung = 0, [], []
    request = wire.post(CHAT, side.key, BODY)
    for _ in range(rounds):
        for name, lie in LIES.items():
            # A connection is in the pool before it is lied on.
            wire.ask(side.address, request)
            time.sleep(0.01)
            told, liar.lie, begun = told + 1, lie, time.monotonic()
            try:
                wire.ask(side.address, request, timeout=10)
            except (OSError, wire.Broken, ValueError):
                pass
            if time.monotonic() - begun > 2 * LIMIT + SLACK:
                hung.append(f"{name}: {time.monotonic() - begun:.1f} s")
            # It was lied to nobody if the gateway answered by itself.
            liar.lie = None
            for wait in (getattr(lie, "lasts", 0), 0.06, 0):
                time.sleep(wait)
                try:
                    status, _, body = wire.ask(side.address, request)
                except (OSError, wire.Broken, ValueError) as error:
                    status, body = 0, str(error).encode()
                if (status, body) != (200, TRUTH):
                    poison.append(f"{name}: {status} {body[:40]!r}")
    return told, poison, hung


@check(
    21,
    "an upstream that lies",
    how="lengths of one octet too many or too few, forged second answers, both framings, early ends, resets, interim answers, "
    "heads and trailers without end; after each lie the next three requests must get the truth",
    demand="0 requests get anything but the truth after a lie, 0 hang",
)
def lies(run: Run) -> Outcome:
    rounds, rivals, text, passed, note = run.many(4, 1), {}, "", False, ""
    for open_side in [sides.weir, sides.nginx, sides.haproxy] if run.long else [sides.weir]:
        liar = Liar()
        with wire.Upstream(liar) as upstream:
            beside = (upstream.address, "sk-trust", PATIENT) if open_side is sides.weir else (upstream.address, "sk-trust", LIMIT)
            with open_side(*beside) as side:
                told, poison, hung = poisoned(side, liar, rounds)
                side.process.still_runs()
        line = f"{told} lies of {len(LIES)} kinds, {len(poison)} poisoned requests, {len(hung)} hung"
        if side.name == "Weir":
            text, passed, note = line, not poison and not hung, "; ".join([*poison[:3], *hung[:3]])
        else:
            rivals[side.name] = line + (f", after {poison[0]}" if poison else "")
    return Outcome(passed, text, rivals, note)
