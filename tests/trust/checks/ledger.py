"""The ledger under fire: kills, power cuts, damage, full disks. A settlement counts once, whatever happens."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import local

from .. import cargo
from ..board import Outcome, Run, Unable, check
from ..clients import Clients
from ..servers import KEY, Weir
from ..traced import Site, Sums, chosen, points

# Cases that share one data directory: a key has at most 4096 series.
CASES = 25
LIMITED = "wk-trust-limited-0123456789abcdef01234567"
PRICES = 'models: { "gpt-*": { input: "1", output: "1000" } }\n'


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@check(
    1,
    "kill -9 in mid-load",
    how="six clients over HTTP/1.1 and h2c, streams and plain answers; the gateway is killed at random moments and started "
    "again; then each answer that a client had whole is compared with the provider's ledger by its bytes' SHA-256, "
    "events and tokens, and each request of a key with a budget that the provider was asked, whole or cut",
    demand="200 kills: 0 lost, 0 twice; what was cut is settled",
    short=False,
)
def kills(run: Run) -> Outcome:
    return cargo.tests("every_answer_that_arrived_whole", "--test it", {"WEIR_TRUST_KILLS": f"{run.many(200, 20)}"})


@check(
    2,
    "kill at each system call of journal and store",
    how="`strace -e inject=CALL:signal=KILL:when=N`: a watched run says which calls concern the data directory (opening, "
    "serving under load, closing); a kill at each of them, then the ledger is opened and compared with the provider's",
    demand="≥ 500 kills: 0 lost, 0 twice",
)
def kills_at_calls(run: Run) -> Outcome:
    wanted, seconds = run.many(500, 5), run.many(5, 3) / 10
    sums, killed, missed, known = Sums(), 0, 0, []
    calls = set()
    with local.Demo() as demo:
        round_number = 0
        while killed < wanted and missed < 2 * wanted:
            round_number += 1
            with Site(demo, f"calls{round_number}") as site:
                if not known:
                    known = watched(site, seconds)
                found = (0, 0, 0, 0, 0)
                for call, number in chosen(known, min(CASES, wanted - killed), round_number):
                    with site.traced([f"{call}:signal=KILL:when={number}"], patient=False) as weir:
                        if site.run(weir, seconds):
                            killed += 1
                            calls.add(call)
                        else:
                            missed += 1
                    rows = site.reopened(signal.SIGKILL if killed % 2 else signal.SIGINT)[1]
                    found = sums.compare(rows, site.whole, demo.entries())
                    if any(found[1:]):
                        break
                sums.add(found)
                if not sums.are_right:
                    break
    places = f"{len(known)} places of {len(calls)} calls"
    return Outcome(sums.are_right and killed >= wanted, f"{killed} kills at {places}; {sums}",
                   note=f"{missed} runs ended before the call was made as often." if missed else "")


def watched(site: Site, seconds: float) -> list[tuple[str, int]]:
    """The calls of two lives: with a new data directory, and with what the first left."""
    found = []
    for _ in range(2):
        with site.traced() as weir:
            site.run(weir, seconds)
        found += points(site.log, site.data)
    return sorted(set(found))


@check(
    3,
    "kill while opening",
    how="the same while a gateway opens a ledger that a killed one left: the journal is not folded, the store is behind. "
    "Then it is opened without a kill",
    demand="100 of 100 open within 5 s, 0 lost, 0 twice",
)
def kills_while_opening(run: Run) -> Outcome:
    wanted = run.many(100, 4)
    sums, killed, missed, slow, slowest = Sums(), 0, 0, 0, 0.0
    with local.Demo() as demo:
        round_number = 0
        while killed < wanted and missed < 2 * wanted:
            round_number += 1
            with Site(demo, f"open{round_number}") as site:
                site.reopened(seconds=0.3)
                with site.traced() as weir:
                    weir.signal(signal.SIGKILL)
                    weir.ends(local.STOP_SECONDS)
                known = points(site.log, site.data)
                found = (0, 0, 0, 0, 0)
                for call, number in chosen(known, min(CASES, wanted - killed), round_number):
                    with site.traced([f"{call}:signal=KILL:when={number}"], patient=False) as weir:
                        local.wait_for("ready or killed", lambda: weir.ends(0.01) or weir.is_ready(), 30)
                        if weir.child.poll() is None:
                            missed += 1
                        else:
                            killed += 1
                    # The rows are from before the load that follows.
                    whole = set(site.whole)
                    took, rows = site.reopened(seconds=0.2)
                    slow, slowest = slow + (took > 5), max(slowest, took)
                    found = sums.compare(rows, whole, demo.entries())
                    if any(found[1:]):
                        break
                sums.add(found)
                if not sums.are_right:
                    break
    figure = f"{killed} kills, {killed - slow} open within 5 s, the slowest in {slowest:.2f} s; {sums}"
    return Outcome(sums.are_right and slow == 0 and killed >= wanted, figure)


@check(
    4,
    "power loss",
    how="the journal's disk in a test: what was not synced is gone, store and names of files included; the ledger is opened "
    "from the rest, at random moments, with the removed segments back and without",
    demand="the default loses what is younger than 50 ms and two syncs, strict nothing that was confirmed",
    short=False,
)
def power_loss(run: Run) -> Outcome:
    return cargo.tests("tests::power::", "--lib", {"WEIR_TRUST_POWER_CUTS": f"{run.many(200, 10)}"})


@check(
    5,
    "bit flips and truncations of journal and store",
    how="copies of a ledger with flipped bits, overwritten and zeroed pieces, cut and missing files, opened; each record "
    "whose bytes were not touched must count once, and what is missing must be reported",
    demand="1,000 files: 0 panics, 0 other figures, all damage reported",
    short=False,
)
def mutations(run: Run) -> Outcome:
    return cargo.tests("tests::damage::", "--lib", {"WEIR_TRUST_MUTATIONS": f"{run.many(1000, 40)}"})


@check(
    6,
    "rebuild of the totals from the journal",
    how="a journal alone, written by the ledger's own code, 1,000 series of 50 keys; no store, no snapshot; the time until "
    "the ledger is open and answers, release build",
    demand="10 M records ≤ 60 s, totals equal",
    short=False,
)
def rebuild(run: Run) -> Outcome:
    return cargo.tests("tests::rebuild::", "--lib", {"WEIR_TRUST_RECORDS": f"{run.many(10_000_000, 100_000)}"}, release=True)


@check(
    8,
    "exactly once under all interleavings",
    how="proptest: any order of settlements, reservations, folds, snapshots, kills, stops, failing disks and up to three "
    "processes as in two upgrades in a row, against a model of ten lines",
    demand="no counter-example",
    short=False,
)
def interleavings(run: Run) -> Outcome:
    return cargo.tests("tests::interleavings::", "--lib", {"WEIR_TRUST_CASES": f"{run.many(2000, 24)}"})


@check(
    7,
    "disk full, input/output errors",
    how="data_dir on a tmpfs of 8 MiB that is filled to the last byte under load, three times: before the journal has a "
    "segment, while it and the store grow, and before a start; then freed. And EIO on the calls of journal and store by strace. Keys without a "
    "budget, and one with a budget under `ledger.when_full: refuse` and `serve`",
    demand="0 crashes, keys without a budget served, alarm ≤ 1 s, recovers without a restart, 0 lost",
)
def full_disk(run: Run) -> Outcome:
    parts, notes, passed = [], [], True
    for rule in ["refuse", "serve"]:
        outcome = filled(rule, run.many(8, 1))
        parts.append(f"full, {rule}: {outcome.figure}")
        passed &= outcome.passed
        notes.append(outcome.note)
    outcome = broken(run.many(8, 2))
    parts.append(f"EIO: {outcome.figure}")
    notes.append(outcome.note)
    return Outcome(passed and outcome.passed, "; ".join(parts), note=" ".join(note for note in notes if note))


@contextlib.contextmanager
def small_disk():
    """An empty file system of 8 MiB."""
    if os.geteuid() != 0:
        raise Unable("only root may mount a tmpfs")
    with tempfile.TemporaryDirectory(prefix="weir-trust-disk-") as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "weir-trust", place], capture_output=True, text=True)
        if mounted.returncode != 0:
            raise Unable(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", "--lazy", place], check=False)


def fill(disk: Path) -> Path:
    """Takes what room there is."""
    ballast = disk / "ballast"
    for size in [1 << 16, 1 << 12, 1]:
        with open(ballast, "ab", buffering=0) as file:
            try:
                while file.write(b"\xaa" * size) == size:
                    pass
            except OSError:
                pass
    return ballast


class Traffic(Clients):
    """Requests of a key without a budget and of one with, side by side; statuses are counted."""

    def __init__(self, address: str, before: "Traffic | None" = None):
        super().__init__([KEY, LIMITED])
        self.address = address
        # It goes on counting where another one, before another gateway, stopped.
        self.statuses: dict[str, dict[int, int]] = before.statuses if before else {KEY: {}, LIMITED: {}}

    def ask(self, key: str):
        body = json.dumps({"model": "gpt-4o", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]})
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        while not self.stopped.is_set():
            try:
                status = local.request(self.address, "POST", "/v1/chat/completions", headers, body, timeout=10)[0]
            except OSError:
                status = 0
            self.statuses[key][status] = self.statuses[key].get(status, 0) + 1
            self.stopped.wait(0.002)

    def of(self, key: str, status: int) -> int:
        return self.statuses[key].get(status, 0)

    def others(self, key: str, *fine: int) -> dict[int, int]:
        return {status: count for status, count in self.statuses[key].items() if status not in fine}


def budgeted(prices: Path, rule: str) -> dict:
    prices.write_text(PRICES)
    return {
        "prices": str(prices),
        "ledger": {"when_full": rule},
        "server": {"threads": 2, "grace_period": "1s"},
        "keys": [
            {"name": "free", "sha256": digest(KEY)},
            {"name": "limited", "sha256": digest(LIMITED), "limits": {"budget_usd": {"total": "1000000"}}},
        ],
    }


def figure(weir: Weir, name: str) -> float:
    return next((float(line.split()[1]) for line in weir.metrics().splitlines() if line.startswith(f"{name} ")), -1.0)


def alarm(weir: Weir) -> float:
    return figure(weir, "weir_ledger_backlog_records") + figure(weir, "weir_ledger_refused_total")


def filled(rule: str, seconds: float) -> Outcome:
    wrong = []
    with local.Demo() as demo, small_disk() as disk, tempfile.TemporaryDirectory() as folder:
        extra = budgeted(Path(folder) / "prices.yaml", rule)
        with Weir(demo.mock, demo.mock_key, extra, data=disk / "data") as weir:
            ballast = fill(disk)
            begun = time.monotonic()
            with Traffic(weir.address) as traffic:
                alarmed = local.wait_for("an alarm", lambda: alarm(weir) > 0 and time.monotonic() - begun, 10)
                time.sleep(seconds)
                weir.still_runs()
                refused, served = traffic.of(LIMITED, 503), traffic.of(LIMITED, 200)
                if rule == "refuse" and (served or not refused) or rule == "serve" and (refused or not served):
                    wrong.append(f"{refused} of the budgeted were refused and {served} served")
                ballast.unlink()
                freed = time.monotonic()
                local.wait_for("recovery", lambda: figure(weir, "weir_ledger_backlog_records") == 0, 10)
                before = traffic.of(LIMITED, 200)
                local.wait_for("the budgeted are served", lambda: traffic.of(LIMITED, 200) > before, 10)
                recovered = time.monotonic() - freed
                # Now with an open segment, and a store that has something to write.
                ballast = fill(disk)
                time.sleep(seconds)
                weir.still_runs()
                ballast.unlink()
                local.wait_for("recovery", lambda: figure(weir, "weir_ledger_backlog_records") == 0, 10)
                local.wait_for("the store", lambda: figure(weir, "weir_store_up") == 1, 15)
            if traffic.others(KEY, 200) or traffic.others(LIMITED, 200, 503):
                wrong.append(f"other answers: {traffic.statuses}")
            lost = missing(weir, traffic)
            if figure(weir, "weir_ledger_dropped_total") != 0:
                wrong.append("records were dropped")
            if "panicked at" in weir.output():
                wrong.append(weir.output()[-300:])
            weir.child.send_signal(signal.SIGINT)
            weir.child.wait(local.STOP_SECONDS)
        # The next one starts on a disk that is full.
        ballast = fill(disk)
        with Weir(demo.mock, demo.mock_key, extra, data=disk / "data") as weir:
            lost += abs(missing(weir, traffic))
            with Traffic(weir.address, traffic) as traffic:
                local.wait_for("an alarm", lambda: alarm(weir) > 0, 10)
                time.sleep(seconds / 2)
                ballast.unlink()
                local.wait_for("recovery", lambda: figure(weir, "weir_ledger_backlog_records") == 0, 10)
            if traffic.others(KEY, 200):
                wrong.append(f"after a start on a full disk: {traffic.statuses}")
            lost += abs(missing(weir, traffic))
    ok = not wrong and lost == 0 and alarmed <= 1.0
    said = (f"0 crashes, {traffic.of(KEY, 200)} without a budget all served, {refused} budgeted refused and {served} served in "
            f"the outage, alarm after {alarmed:.2f} s, recovered {recovered:.2f} s after room, {lost} lost")
    return Outcome(ok, said, note="; ".join(wrong))


def missing(weir: Weir, traffic: Traffic) -> int:
    """Answers that were had and are not counted (below 0: counted and not had)."""
    wanted = {"free": traffic.of(KEY, 200), "limited": traffic.of(LIMITED, 200)}

    def counted():
        return {row["key"]: row["requests"] - row["failed"] for row in weir.usage("key")}

    deadline = time.monotonic() + local.SETTLE_SECONDS
    while (rows := counted()) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return sum(wanted.values()) - sum(rows.values())


def broken(seconds: float) -> Outcome:
    """Every call of the journal and the store that writes fails for a while, in each thread."""
    faults = [f"{call}:error=EIO:when=3..{last}" for call, last in
              [("fdatasync", 12), ("fallocate", 20), ("pwrite64", 60), ("ftruncate", 20), ("fsync", 6)]]
    with local.Demo() as demo, Site(demo, "broken") as site:
        with site.traced(faults) as weir:
            with site.load(weir) as load:
                time.sleep(seconds)
                alive = weir.child.poll() is None
                errors = figure(weir, "weir_ledger_append_errors_total")
                local.wait_for("recovery", lambda: figure(weir, "weir_ledger_backlog_records") == 0, 20)
            site.whole |= load.whole
            panics = weir.output().count("panicked at")
            weir.signal(signal.SIGINT)
            weir.ends(local.STOP_SECONDS)
        sums = Sums()
        sums.add(sums.compare(site.reopened()[1], site.whole, demo.entries()))
    fine = alive and sums.are_right and panics == 0 and errors > 0
    return Outcome(fine, f"{errors:.0f} errors, {panics} panics, {sums}", note="" if alive else "it ended")
