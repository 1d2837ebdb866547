"""Processes that a measurement starts: one on a core, its tree of children, its memory and CPU time, its end.

Knows nothing of what the process is. Ends only what it started, each by its id.
"""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

# A proxy reads 1,000 keys in far less; a shared machine may stall for seconds.
READY_TIMEOUT = 20.0
# What does not end in this time when asked is killed.
STOP_TIMEOUT = 5.0
# Of a process's output, what an error shows.
LOG_TAIL_BYTES = 2000


class Failed(Exception):
    """A step that did not do what the measurement needs."""


class Process:
    """A command in the foreground, pinned to a core, its output in a file."""

    def __init__(self, name: str, command: list[str], core: int, log: Path, stop_signal: int = signal.SIGTERM):
        self.name = name
        self._log = log
        self._stop_signal = stop_signal
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                on_core(core, command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_open(self, port: int) -> None:
        """Returns once the port takes connections."""
        end = time.monotonic() + READY_TIMEOUT
        while True:
            if self._child.poll() is not None:
                raise Failed(f"{self.name} ended with {self._child.returncode} before it was ready:\n{self.log_tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise Failed(f"{self.name} opened no port in {READY_TIMEOUT} s:\n{self.log_tail()}") from None
                time.sleep(0.02)

    def pids(self) -> list[int]:
        """The process and all that descend from it."""
        return tree(self._child.pid, parents())

    def pss_kib(self) -> int:
        """Proportional memory of the whole tree."""
        return sum(pss_kib(pid) for pid in self.pids())

    def cpu_ns(self) -> int:
        """User and system time of the whole tree so far."""
        return sum(cpu_ns(pid) for pid in self.pids())

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


def on_core(core: int, command: list[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command]


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
