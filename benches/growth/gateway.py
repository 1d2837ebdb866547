"""Weir in a given size: how many keys, channels and threads, and which channel serves a request."""

import http.client
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from ..compare.process import Process
from ..compare.proxies import Setting, Weir
from ..compare.rules import MODEL
from ..compare.work import KEYS

# The finest step of a start-up time. The question that is asked each time waits for nothing.
READY_PAUSE = 0.001


class Serves(Enum):
    """What the channels serve. The load asks for one model only."""

    # Each a model of its own; the last is asked for, before which a search in order tries all others.
    OWN = auto()
    # All the same model: the first one is taken.
    SAME = auto()
    # All the same model, and each client key may use one channel only: all are taken, in turn.
    BY_KEY = auto()


@dataclass(frozen=True)
class Shape:
    """The size of a gateway in every direction."""

    keys: int = KEYS
    channels: int = 1
    serves: Serves = Serves.SAME
    threads: int = 1

    def expected_use(self, by: str) -> set[str]:
        """The names of the keys or channels that requests are counted under, if each key has had one."""
        if by == "key":
            return {f"key-{n}" for n in range(self.keys)}
        used = {
            Serves.OWN: [self.channels - 1],
            Serves.SAME: [0],
            Serves.BY_KEY: range(min(self.channels, self.keys)),
        }
        return {channel_name(n) for n in used[self.serves]}


class GrownWeir(Weir):
    """Weir, configured in that size. It is started once."""

    def __init__(self, program: Path, shape: Shape):
        super().__init__("weir", program)
        self.shape = shape
        # From its start to its first word that it is ready.
        self.ready_seconds = 0.0

    def configuration(self, setting: Setting, port: int) -> dict:
        made = super().configuration(setting, port)
        self._admin = made["admin"]["address"]
        made["server"]["threads"] = self.shape.threads
        [channel] = made["channels"]
        made["channels"] = [
            {**channel, "name": channel_name(n), "models": [model_of(self.shape, n)], "priority": n}
            for n in range(self.shape.channels)
        ]
        if self.shape.serves is Serves.BY_KEY:
            for n, key in enumerate(made["keys"]):
                key["channels"] = [channel_name(n % self.shape.channels)]
        return made

    def wait_until_ready(self, process: Process, port: int) -> None:
        self.ready_seconds = process.wait_until(lambda: says_ready(self._admin), READY_PAUSE)


def channel_name(n: int) -> str:
    return f"channel-{n}"


def model_of(shape: Shape, channel: int) -> str:
    asked = shape.serves is not Serves.OWN or channel == shape.channels - 1
    return MODEL if asked else f"model-{channel}"


def says_ready(admin: str) -> bool:
    connection = http.client.HTTPConnection(admin, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
