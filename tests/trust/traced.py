"""A gateway that is killed at a system call of its own choosing, under load, and what its ledger holds afterwards.

`strace` ends the process when a thread of it makes a call for the nth time. Which calls there are is read from a run
that is only watched. Knows nothing of what a check demands.
"""

import hashlib
import http.client
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import local

from .clients import Clients
from .servers import Weir, family, program

# What journal, store and snapshot ask of the kernel. The question mark is for calls that a machine does not have.
CALLS = ["openat", "write", "pwrite64", "fallocate", "ftruncate", "mmap", "fdatasync", "fsync", "sync_file_range",
         "?link", "linkat", "?unlink", "unlinkat", "?rename", "renameat", "?mkdir", "flock"]
# A key has at most 4096 series, and each request has a model of its own.
KEYS = [f"wk-traced-{number:02}-0123456789abcdef0123456789abcdef" for number in range(16)]
CLIENTS = 4
# What a kill may leave to the next start, at most.
PATIENCE = 20


def settings() -> dict:
    """What a gateway's configuration has beside the usual."""
    keys = [{"name": f"traced-{n}", "sha256": hashlib.sha256(key.encode()).hexdigest()} for n, key in enumerate(KEYS)]
    return {"keys": keys, "server": {"threads": 2, "grace_period": "1s"}}


class Traced(Weir):
    """A gateway under strace: watched, or with a fault injected (`openat:signal=KILL:when=7`)."""

    def __init__(self, upstream: str, key: str, data: Path, log: Path, inject: list[str] | None = None, patient: bool = True):
        self.patient = patient
        traced = ",".join(CALLS)
        # With the filter only these calls stop the process; a signal is not injected then.
        faults = inject or []
        quick = [] if any("signal=" in fault for fault in faults) else ["--seccomp-bpf"]
        words = [program("strace"), "-f", "-y", *quick, "-o", log, "-e", f"trace={traced}", "-e", "signal=none"]
        for fault in faults:
            words += ["-e", f"inject={fault}"]
        super().__init__(upstream, key, settings(), [str(word) for word in words], data=data)

    def await_start(self):
        if self.patient:
            super().await_start()

    def gateway_pid(self) -> int | None:
        """The gateway itself, if it lives; strace is its parent."""
        return next(iter(family(self.child.pid)[1:]), None)

    def signal(self, number: int):
        pid = self.gateway_pid()
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def ends(self, seconds: float) -> bool:
        """Whether it ends by itself in that time."""
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def is_ready(self) -> bool:
        return local.answers(self.admin, "/readyz")

    def __exit__(self, *arguments):
        # strace passes no signal on.
        self.signal(signal.SIGKILL)
        super().__exit__(*arguments)


class Load(Clients):
    """Clients that ask one request after the other, each for a model that no other request names."""

    def __init__(self, name: str, address: str):
        super().__init__(range(CLIENTS))
        self.address, self.name = address, name
        # Models whose answers were had whole.
        self.whole: set[str] = set()

    def ask(self, client: int):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        number = 0
        while not self.stopped.is_set():
            number += 1
            model = f"gpt-{self.name}-{client}-{number}"
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": "word " * (1 + number % 7)}]})
            headers = {"authorization": f"Bearer {KEYS[number % len(KEYS)]}", "content-type": "application/json"}
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                answer = connection.getresponse()
                if answer.read() and answer.status == 200:
                    self.whole.add(model)
            except (OSError, http.client.HTTPException):
                connection.close()
                self.stopped.wait(0.02)
        connection.close()


class Sums:
    """What was found over all kills."""

    def __init__(self):
        self.whole = self.lost = self.doubled = self.wrong = self.strangers = 0
        self.slowest = 0.0

    def __str__(self):
        return (f"{self.whole} answers had whole: {self.lost} lost, {self.doubled} counted twice, {self.wrong} with other "
                f"figures than the provider's")

    @property
    def are_right(self) -> bool:
        return self.whole > 0 and not (self.lost or self.doubled or self.wrong or self.strangers)

    def compare(self, rows: list[dict], whole: set[str], entries: list[dict]):
        """Takes the place of the last comparison's figures: rows and answers only grow."""
        counted = {row["model"]: row for row in rows}
        provider = {entry["model"]: entry for entry in entries}
        lost = whole - counted.keys()
        doubled = {model for model, row in counted.items() if row["requests"] > 1}
        wrong = {model for model in whole & counted.keys() if not same(counted[model], provider[model])}
        # What no upstream was asked for can only be a request that failed.
        strangers = {model for model, row in counted.items() if model not in provider and row["failed"] != 1}
        return len(whole), len(lost), len(doubled), len(wrong), len(strangers)

    def add(self, found: tuple[int, int, int, int, int]):
        whole, lost, doubled, wrong, strangers = found
        self.whole += whole
        self.lost += lost
        self.doubled += doubled
        self.wrong += wrong
        self.strangers += strangers


def same(row: dict, entry: dict) -> bool:
    usage = entry["usage"]
    return (row["requests"], row["failed"], row["input_tokens"], row["output_tokens"]) == (
        1, 0, usage["input_uncached"] + usage["cache_read"] + usage["cache_write_5m"] + usage["cache_write_1h"], usage["output"])


class Site:
    """A data directory and everything that was asked of gateways with it."""

    def __init__(self, demo: local.Demo, name: str):
        self.demo, self.name = demo, name
        self.folder = tempfile.TemporaryDirectory(prefix="weir-trust-site-")
        self.data = Path(self.folder.name) / "data"
        self.log = Path(self.folder.name) / "calls"
        self.whole: set[str] = set()
        self.loads = 0
        demo.forget()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def traced(self, inject=None, patient=True) -> Traced:
        return Traced(self.demo.mock, self.demo.mock_key, self.data, self.log, inject, patient)

    def load(self, weir: Weir) -> Load:
        self.loads += 1
        return Load(f"{self.name}-{self.loads}", weir.address)

    def run(self, weir: Traced, seconds: float) -> bool:
        """Has it serve for so long and end, unless it ends before. Whether it was killed."""
        deadline = time.monotonic() + local.START_SECONDS
        while not weir.is_ready():
            if weir.ends(0.01):
                return weir.child.returncode != 0
            if time.monotonic() > deadline:
                raise TimeoutError(f"neither ready nor killed: {weir.output()[-500:]}")
        with self.load(weir) as load:
            killed = weir.ends(seconds)
            if not killed:
                weir.signal(signal.SIGINT)
                weir.ends(local.STOP_SECONDS)
        self.whole |= load.whole
        return killed or weir.child.returncode not in (0, None)

    def reopened(self, ending: int = signal.SIGKILL, seconds: float = 0.0) -> tuple[float, list[dict]]:
        """Opens it as any gateway does: how long that took, and what is counted. It goes on for `seconds` under load
        and ends by a signal."""
        begun = time.monotonic()
        with Weir(self.demo.mock, self.demo.mock_key, settings(), data=self.data) as weir:
            took = time.monotonic() - begun
            rows = weir.usage("model")
            if seconds:
                with self.load(weir) as load:
                    time.sleep(seconds)
                self.whole |= load.whole
            weir.child.send_signal(ending)
            weir.child.wait(PATIENCE)
            panics = weir.output().count("panicked at")
            if panics:
                raise RuntimeError(f"{panics} panics: {weir.output()[-800:]}")
        return took, rows


def points(log: Path, data: Path) -> list[tuple[str, int]]:
    """The calls of a watched run that concern the data directory, each with how often its thread had made it."""
    counts: dict[tuple[str, str], int] = {}
    found = set()
    for line in log.read_text(errors="replace").splitlines():
        made = re.match(r"(\d+) +(\w+)\(", line)
        if not made:
            continue
        thread = counts[made.groups()] = counts.get(made.groups(), 0) + 1
        if str(data) in line:
            found.add((made[2], thread))
    return sorted(found)


def chosen(all_points: list[tuple[str, int]], count: int, seed: int) -> list[tuple[str, int]]:
    """So many of them, each at least once before one comes again, and rare calls as often as frequent ones."""
    lot = random.Random(seed)
    by_call: dict[str, list[tuple[str, int]]] = {}
    for point in all_points:
        by_call.setdefault(point[0], []).append(point)
    for places in by_call.values():
        lot.shuffle(places)
    order = []
    while len(order) < count:
        turn = len(order)
        for places in by_call.values():
            order.append(places[(turn // len(by_call)) % len(places)])
    return order[:count]
