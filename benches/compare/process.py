"""Processes that a measurement starts: one on its cores, its tree of children, its memory and CPU time, its end.

Knows nothing of what the process is. Ends only what it started, each by its id.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# A proxy reads 100,000 keys in far less; a shared machine may stall for seconds.
READY_TIMEOUT = 20.0
# What does not end in this time when asked is killed.
STOP_TIMEOUT = 5.0
# Of a process's output, what an error shows.
LOG_TAIL_BYTES = 2000


class Failed(Exception):
    """A step that did not do what the measurement needs."""


class Process:
    """A command in the foreground, pinned to cores, its output in a file."""

    def __init__(self, name: str, command: list[str], cores: list[int], log: Path, stop_signal: int = signal.SIGTERM):
        self.name = name
        self._log = log
        self._stop_signal = stop_signal
        self._begun = time.monotonic()
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                on_cores(cores, command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_open(self, port: int) -> None:
        """Returns once the port takes connections."""
        self.wait_until(lambda: connects(port), pause=0.02)

    def wait_until(self, ready: Callable[[], bool], pause: float) -> float:
        """Asks until it is ready; returns the seconds since its start."""
        while not ready():
            if self._child.poll() is not None:
                raise Failed(f"{self.name} ended with {self._child.returncode} before it was ready:\n{self.log_tail()}")
            if self.seconds() > READY_TIMEOUT:
                raise Failed(f"{self.name} was not ready in {READY_TIMEOUT} s:\n{self.log_tail()}")
            time.sleep(pause)
        return self.seconds()

    def pids(self) -> list[int]:
        """The process and all that descend from it."""
        return tree(self._child.pid, parents())

    def pss_kib(self) -> int:
        """Proportional memory of the whole tree."""
        return sum(pss_kib(pid) for pid in self.pids())

    def cpu_ns(self) -> int:
        """User and system time of the whole tree so far."""
        return sum(cpu_ns(pid) for pid in self.pids())

    def threads_ns(self) -> dict[str, int]:
        """The same by the names of its threads, of those that still run."""
        spent: dict[str, int] = {}
        for pid in self.pids():
            for name, own in threads_ns(pid):
                spent[name] = spent.get(name, 0) + own
        return spent

    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._begun

    def alive(self) -> bool:
        return self._child.poll() is None

    def log_tail(self) -> str:
        return self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def stop(self) -> None:
        pids = self.pids() if self.alive() else []
        if self.alive():
            self._child.send_signal(self._stop_signal)
            try:
                self._child.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        # A worker leaves a moment after its master; one that stays would share the core with the next proxy.
        end = time.monotonic() + STOP_TIMEOUT
        for pid in pids[1:]:
            while running(pid) and time.monotonic() < end:
                time.sleep(0.01)
            if running(pid):
                os.kill(pid, signal.SIGKILL)


def on_cores(cores: list[int], command: list[str]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cores)), *command]


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def parents() -> dict[int, int]:
    """The parent of each process of this machine."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may hold anything; the parent is the second field behind its end.
            found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    return found


def tree(root: int, parents_of: dict[int, int]) -> list[int]:
    """`root` first, then its descendants, each generation in order."""
    found = [root]
    for pid in found:
        found.extend(sorted(child for child, parent in parents_of.items() if parent == pid))
    return found


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise Failed(f"no Pss of process {pid}")


def cpu_ns(pid: int) -> int:
    # Linux's clock of another process: the complement of its id, and 2 for what the scheduler counted.
    return time.clock_gettime_ns((~pid << 3) | 2)


def threads_ns(pid: int) -> Iterator[tuple[str, int]]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            # The first figure is the time on a core, by the scheduler's count too.
            yield (thread / "comm").read_text().strip(), int((thread / "schedstat").read_text().split()[0])
        except OSError:
            # It ended meanwhile.
            continue
