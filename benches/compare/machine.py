"""What a result was measured on: the machine, the versions, and how much others took of the cores meanwhile."""

import os
import platform
import subprocess
from pathlib import Path

from .proxies import Proxy

# Of the fields of a `cpu` line in /proc/stat.
USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL = range(8)


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


class CoreTimes:
    """The time that a core has spent so far."""

    def __init__(self, core: int):
        self._ticks = next(
            [int(value) for value in line.split()[1:9]]
            for line in Path("/proc/stat").read_text().splitlines()
            if line.startswith(f"cpu{core} ")
        )

    def since(self, earlier: "CoreTimes") -> dict[str, float]:
        """Of the time since then: the shares of processes, of all work, and of other guests of the host."""
        spent = [now - before for now, before in zip(self._ticks, earlier._ticks, strict=True)]
        total = max(sum(spent), 1)
        processes = spent[USER] + spent[NICE] + spent[SYSTEM]
        return {
            "processes": processes / total,
            "busy": (processes + spent[IRQ] + spent[SOFTIRQ]) / total,
            "steal": spent[STEAL] / total,
        }
