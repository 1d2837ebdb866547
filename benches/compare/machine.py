"""What a result was measured on: the machine, the versions, and how much others took of the cores meanwhile."""

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .proxies import Proxy, Weir


def describe(proxies: list[Proxy], command: list[str]) -> dict:
    """What `machine.json` holds."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_mib": memory_mib(),
        "kernel": platform.release(),
        "system": system(),
        "versions": {
            **{proxy.name: proxy.version() for proxy in proxies},
            "rustc": output(["rustc", "--version"]).removeprefix("rustc "),
            "python": platform.python_version(),
        },
        "commit": commit(),
        "builds": {
            proxy.name: hashlib.sha256(proxy.program.read_bytes()).hexdigest()
            for proxy in proxies
            if isinstance(proxy, Weir)
        },
        "command": command,
    }


def cpu_model() -> str:
    return field("/proc/cpuinfo", "model name") or platform.machine()


def memory_mib() -> int:
    return int(field("/proc/meminfo", "MemTotal").split()[0]) // 1024


def system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())


def commit() -> str:
    """The commit of this repository, and whether sources of what is measured differ from it."""
    named = output(["git", "rev-parse", "--short=12", "HEAD"])
    changed = output(
        ["git", "status", "--porcelain", "--", "Cargo.toml", "Cargo.lock", "src", "filters", "benches/load"]
    )
    return f"{named}, changed" if changed else named


def field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class CoreUse:
    """Shares of a core's time."""

    # In processes, whosever; time in interrupts counts to whom it interrupted only on some kernels.
    processes: float
    # Taken by other guests of the host.
    steal: float


class CoreTimes:
    """The time that a core has spent so far."""

    def __init__(self, core: int):
        lines = Path("/proc/stat").read_text().splitlines()
        self._ticks = next(line for line in lines if line.startswith(f"cpu{core} ")).split()[1:9]

    def since(self, earlier: "CoreTimes") -> CoreUse:
        spent = [int(now) - int(before) for now, before in zip(self._ticks, earlier._ticks, strict=True)]
        user, nice, system, *_, steal = spent
        total = max(sum(spent), 1)
        return CoreUse((user + nice + system) / total, steal / total)
