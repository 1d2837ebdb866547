"""The works that the proxies are compared on, and the load's arguments for each."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

PATH = "/v1/chat/completions"
KEYS = 1000
# A request that takes longer is an error.
REQUEST_TIMEOUT = 20
# A paced stream goes on for so long after the window that none ends in it.
STREAM_MARGIN = 3.0
PACED_STREAMS = 1000


@dataclass(frozen=True)
class Work:
    """One work. Its name is the key in the raw results."""

    name: str
    title: str
    bench: str
    connections: int
    # Times the caller's seconds per measurement; streams need longer, for a ramp and for their few events.
    seconds_factor: float = 1.0
    warmup: float = 1.0
    body_bytes: int = 300
    # Arrivals per second; None is a closed loop.
    rate: int | None = None
    reconnect: bool = False
    known_keys: bool = True
    # Microseconds between two events of a stream.
    every: int | None = None
    # What the CPU time is divided by.
    unit: str = "request"
    # Which of the load's histograms is shown.
    latency: str = "latency_us"
    # Whether a latency means something beside that of no proxy: a saturated loop shows only who saturates it.
    added_latency: bool = False
    # Whether the mock can be asked without a proxy.
    direct: bool = True
    # Whether the proxy's own count must be the load's. The load must count everything then, so without a warm-up.
    counted: bool = False

    def seconds(self, per_measurement: float) -> float:
        return per_measurement * self.seconds_factor

    def streams(self) -> bool:
        return self.every is not None

    def paced(self) -> bool:
        return bool(self.every)

    def expected_status(self) -> int:
        return 200 if self.known_keys else 401

    def load_arguments(
        self, upstream: int, through: tuple[int, Path] | None, seconds: float, pids: list[int], include_usage: bool
    ) -> list[str]:
        """`through` is a proxy's port and the file of client keys; without it the mock is asked, as if by a proxy."""
        bench = self.bench
        if self.paced():
            lasts = self.warmup + seconds + STREAM_MARGIN
            bench = f"sse;events={int(lasts * 1e6 / self.every)};every={self.every};batch=1"
        arguments = {
            "--mock": f"127.0.0.1:{upstream}",
            "--path": PATH,
            "--bench": bench,
            "--body-bytes": self.body_bytes,
            "--connections": self.connections,
            "--mode": "closed" if self.rate is None else "open",
            "--warmup": self.warmup,
            "--seconds": seconds,
            "--expect-status": self.expected_status(),
            "--timeout": REQUEST_TIMEOUT + int(seconds),
        }
        if self.rate is not None:
            arguments["--rate"] = self.rate
        if through:
            port, keys = through
            arguments |= {"--target": f"127.0.0.1:{port}", "--keys-file": keys}
        if pids:
            arguments["--cpu"] = ",".join(map(str, pids))
        listed = [str(part) for pair in arguments.items() for part in pair]
        listed += [] if through else ["--direct"]
        listed += ["--reconnect"] if self.reconnect else []
        listed += ["--include-usage"] if self.streams() and include_usage else []
        return listed


WORKS = [
    Work("json", "small JSON, saturated", "json", connections=64, warmup=0.0, counted=True),
    Work("json-rate", "small JSON at 4,000/s", "json", connections=64, rate=4000, added_latency=True),
    Work("sse-fast", "SSE as fast as possible", "sse;events=200;every=0;batch=1", 64, every=0, unit="event"),
    *(
        Work(
            f"paced-{every}ms",
            f"1,000 streams, an event each {every} ms",
            "sse",
            connections=PACED_STREAMS,
            seconds_factor=1.5,
            warmup=3.0,
            every=every * 1000,
            unit="event",
            latency="event_delay_us",
            added_latency=True,
        )
        for every in [20, 50]
    ),
    Work("body-100k", "100 KB bodies", "json", connections=16, body_bytes=100_000),
    Work("connect", "a connection per request", "json", connections=16, reconnect=True),
    Work("refused", "unknown keys: 401", "json", connections=64, known_keys=False, direct=False),
]

# Before each measurement: proves that the proxy answers, and touches what it needs once. What it occupies then is
# what it occupies idle.
WARM_UP = Work("warm-up", "", "json", connections=8, warmup=0.0)
WARM_UP_SECONDS = 0.3

# A name beside those of WORKS: memory after start and warm-up.
IDLE = "idle"


def client_keys(count: int = KEYS) -> list[str]:
    """The keys that every proxy knows."""
    return [f"sk-bench-{hashlib.sha256(f'client {index}'.encode()).hexdigest()[:40]}" for index in range(count)]


def unknown_keys() -> list[str]:
    """Keys of the same shape that none knows."""
    return [f"sk-bench-{hashlib.sha256(f'stranger {index}'.encode()).hexdigest()[:40]}" for index in range(KEYS)]
