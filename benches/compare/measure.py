"""One measurement: a proxy started afresh, the load through it with the mock in its process, and what it saw."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .machine import CoreTimes, CoreUse
from .process import Failed, Process, free_port, on_cores
from .proxies import Proxy, Running, Setting
from .work import WARM_UP, WARM_UP_SECONDS, Work, client_keys, unknown_keys

PROXY_CORE = 0
LOAD_CORE = 1
# Beyond a measurement's own time: connecting, the timeout of the last requests, the JSON.
LOAD_MARGIN = 60.0
# What a proxy does after its last answer, such as closing connections.
SETTLING = 0.2
# On a crowded machine the load may not have run before its time is over.
WARM_UP_TRIES = 5
# One that was too short is made longer than it would have to be: a key's first request costs more than a later one.
WARM_UP_SPARE = 1.5
LONGEST_WARM_UP = 60.0
# A ledger may be read before it has folded the last records.
COUNT_TRIES = 20
COUNT_PAUSE = 0.1


@dataclass(frozen=True)
class Bench:
    """The load's program, a folder on the disk that ledgers are to be written to, and what is asked for."""

    load: Path
    scratch: Path
    # Streams ask for the usage report.
    include_usage: bool


@dataclass(frozen=True)
class Site:
    """What every measurement has: a folder of its own, a port for the mock of its loads, and what its proxy gets."""

    bench: Bench
    folder: Path
    upstream: int
    # Those that the proxy knows.
    keys: list[str]
    # The proxy's.
    cores: list[int]

    def key_file(self, keys: list[str]) -> Path:
        file = self.folder / "client-keys"
        file.write_text("\n".join(keys) + "\n")
        return file


def measure(bench: Bench, work: Work, proxy: Proxy, seconds: float) -> dict:
    """The results of one work through a proxy."""
    with open_site(bench) as site, started(site, proxy) as running:
        return measure_running(site, running, work, seconds, warm_up(site, running))


def measure_running(site: Site, running: Running, work: Work, seconds: float, warmed_up: tuple[int, int]) -> dict:
    """The same through a proxy that has been warmed up, and has answered so many requests then."""
    process = running.process
    completed, perhaps = warmed_up
    idle_pss = process.pss_kib()
    keys = site.key_file(site.keys if work.known_keys else unknown_keys())
    with running.visited([LOAD_CORE]) as visits:
        loaded = run_load(site, work, (running.port, keys), work.seconds(seconds), process)
    if not process.alive():
        raise Failed(f"{process.name} ended during the work {work.name}:\n{process.log_tail()}")
    result = {"idle_pss_kib": idle_pss, **loaded, **visits}
    if work.counted:
        completed += loaded["load"]["requests"]
        result["counted"] = counted(running, completed, perhaps + work.connections)
    return result


def measure_direct(bench: Bench, work: Work, seconds: float) -> dict:
    """The results of one work through nothing: the load asks the mock itself."""
    with open_site(bench) as site:
        return run_load(site, work, None, work.seconds(seconds), None)


def measure_idle(bench: Bench, proxy: Proxy) -> dict:
    """The memory of a proxy that has answered something and has nothing to do."""
    with open_site(bench) as site, started(site, proxy) as running:
        warm_up(site, running)
        return {"idle_pss_kib": running.process.pss_kib()}


@contextmanager
def open_site(bench: Bench, keys: list[str] | None = None, cores: list[int] | None = None) -> Iterator[Site]:
    """Of a proxy that knows `keys`, by default those of every work, and has `cores`, by default one."""
    with tempfile.TemporaryDirectory(dir=bench.scratch) as name:
        yield Site(bench, Path(name), free_port(), keys or client_keys(), cores or [PROXY_CORE])


@contextmanager
def started(site: Site, proxy: Proxy) -> Iterator[Running]:
    folder = site.folder / "proxy"
    folder.mkdir()
    running = proxy.start(Setting(folder, site.upstream, site.keys, site.cores))
    with running.process:
        yield running


def warm_up(site: Site, running: Running, each_key: bool = False) -> tuple[int, int]:
    """Proves that the proxy does the work; what it occupies afterwards is what it occupies idle.

    Lasts until each key has been used, if that is asked for. Returns how many requests were completed, and how many
    more there may have been.
    """
    # Every load begins with the first key, and connections overtake each other.
    least = len(site.keys) + WARM_UP.connections if each_key else 1
    seconds, completed = WARM_UP_SECONDS, 0
    for tries in range(1, WARM_UP_TRIES + 1):
        through = running.port, site.key_file(site.keys)
        arguments = WARM_UP.load_arguments(site.upstream, through, seconds, [], False)
        result = load(site.bench, arguments, seconds)
        if any(result["errors"].values()):
            raise Failed(f"{running.process.name} failed the warm-up: {result}\n{running.process.log_tail()}")
        completed += result["requests"]
        if result["requests"] >= least:
            time.sleep(SETTLING)
            return completed, tries * WARM_UP.connections
        seconds = longer(seconds, result["requests"], least)
    raise Failed(f"{running.process.name} answered too little in the warm-up:\n{running.process.log_tail()}")


def longer(seconds: float, requests: int, least: int) -> float:
    """How long a warm-up must be for `least` requests, after one that had `requests` in `seconds`."""
    return min(seconds * least / requests * WARM_UP_SPARE, LONGEST_WARM_UP) if requests else seconds


def run_load(
    site: Site, work: Work, through: tuple[int, Path] | None, seconds: float, process: Process | None
) -> dict:
    """What the load says, and who else used the cores meanwhile."""
    before = {core: CoreTimes(core) for core in {*site.cores, LOAD_CORE}}
    proxy_before, load_before = process.cpu_ns() if process else 0, ended_cpu_ns()
    threads_before = process.threads_ns() if process else {}
    begun = time.monotonic_ns()
    pids = process.pids() if process else []
    arguments = work.load_arguments(site.upstream, through, seconds, pids, site.bench.include_usage)
    result = load(site.bench, arguments, work.warmup + seconds)
    wall = time.monotonic_ns() - begun
    used = {core: CoreTimes(core).since(start) for core, start in before.items()}
    proxy_share = (process.cpu_ns() - proxy_before) / wall if process else 0.0
    load_share = (ended_cpu_ns() - load_before) / wall
    threads = process.threads_ns() if process else {}
    # A histogram without values says nothing.
    recorded = {name: value for name, value in result.items() if not isinstance(value, dict) or value.get("count") != 0}
    return {
        "load": recorded,
        # With what comes before and after the window.
        "threads_ns": {name: spent - threads_before.get(name, 0) for name, spent in threads.items()},
        "foreign_share": round(foreign_share(used, site.cores, proxy_share, load_share), 3),
        "steal_share": round(max(core.steal for core in used.values()), 3),
    }


def foreign_share(used: dict[int, CoreUse], proxy_cores: list[int], proxy_share: float, load_share: float) -> float:
    """What processes took of the cores that are not measured, at least: time in interrupts is nobody's here.

    Of the core that lost most; if proxy and load share a core nobody knows which was whose, and it is of all together.
    """
    if LOAD_CORE in proxy_cores:
        return max(sum(core.processes for core in used.values()) - proxy_share - load_share, 0.0)
    of_proxy = sum(used[core].processes for core in proxy_cores) - proxy_share
    return max(of_proxy, used[LOAD_CORE].processes - load_share, 0.0)


def ended_cpu_ns() -> int:
    """What the processes have used that were started and have ended, as each load has."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def load(bench: Bench, arguments: list[str], seconds: float) -> dict:
    command = on_cores([LOAD_CORE], [str(bench.load), "load", *arguments])
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + LOAD_MARGIN)
    if ended.returncode != 0:
        raise Failed(f"the load ended with {ended.returncode}: {ended.stderr.strip()}")
    result = json.loads(ended.stdout)
    if result["cpu_ns"] is None or None in result["pss_kib"].values():
        raise Failed(f"a process ended during the load: {ended.stderr.strip()}")
    # It tells the first error of each kind.
    sys.stderr.write(ended.stderr)
    return result


def counted(running: Running, completed: int, open_at_end: int) -> dict | None:
    """What the proxy itself has counted beside what the load completed; None of one that does not count.

    Requests that are open when a load ends are given up by it; the proxy counts each of them once or, if it has
    not read it, not at all.
    """
    for _ in range(COUNT_TRIES):
        own = running.counted()
        if own is None:
            return None
        if own >= completed:
            break
        time.sleep(COUNT_PAUSE)
    return {"own": own, "least": completed, "most": completed + open_at_end}
