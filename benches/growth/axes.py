"""The directions in which work grows, and the sizes of each: the gateway's shape and the load's work."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..compare.measure import PROXY_CORE
from ..compare.process import Failed
from ..compare.work import WORKS, Work
from .gateway import Serves, Shape

JSON = next(work for work in WORKS if work.name == "json")

# Of all streams together: what one core of load and mock writes, reads and checks with half of its time to spare.
EVENTS_PER_SECOND = 20_000
# A stream begins with a connection on both sides of the gateway.
STREAMS_OPENED_PER_SECOND = 1500
LEAST_STREAM_WARM_UP = 2.0
# Each of a gateway's streams needs one to the client and one to the upstream; load and mock share a process, too.
FILES_PER_STREAM = 2
# Of a gateway without connections: journal, store, listeners, epoll.
OTHER_FILES = 200


@dataclass(frozen=True)
class Axis:
    """One direction. Its name is the key in the raw results."""

    name: str
    title: str
    # Axes of one group are beside each other in tables and in one panel of the plot.
    group: str
    # What a size counts.
    counted: str
    sizes: tuple[int, ...]
    shape: Callable[[int], Shape] = lambda _: Shape()
    work: Callable[[int], Work] = lambda _: JSON
    # Whether the proxy may use every core of the machine, instead of one.
    all_cores: bool = False
    # Whether the ledger's store has been written once before anything is measured: what it keeps in memory then
    # depends on the size.
    stored: bool = False

    def cores(self) -> list[int]:
        return sorted(os.sched_getaffinity(0)) if self.all_cores else [PROXY_CORE]


def streams(count: int) -> Work:
    """So many open streams that have the same number of events together, however many they are."""
    return Work(
        f"{count} streams",
        "",
        "sse",
        connections=count,
        seconds_factor=1.5,
        warmup=max(LEAST_STREAM_WARM_UP, count / STREAMS_OPENED_PER_SECOND),
        every=count * 1_000_000 // EVENTS_PER_SECOND,
        unit="event",
        latency="event_delay_us",
    )


def channels(name: str, title: str, serves: Serves) -> Axis:
    sizes = (1, 10, 1000)
    return Axis(name, title, "channels", "channels", sizes, lambda size: Shape(channels=size, serves=serves))


AXES = [
    Axis(
        "keys",
        "client keys",
        "keys",
        "keys",
        (1, 100, 10_000, 100_000),
        lambda size: Shape(keys=size),
        stored=True,
    ),
    channels("channels-own", "each with a model of its own, the last one asked for", Serves.OWN),
    channels("channels-same", "all with the same model", Serves.SAME),
    channels("channels-by-key", "all with the same model, each key restricted to one of them", Serves.BY_KEY),
    Axis("streams", "open streams", "streams", "streams", (10, 100, 1000, 10_000), work=streams, stored=True),
    Axis("threads", "threads", "threads", "threads", (1, 2, 4), lambda size: Shape(threads=size), all_cores=True),
]
GROUPS = list(dict.fromkeys(axis.group for axis in AXES))
# What the largest size needs.
MOST_STREAMS = max(size for axis in AXES if axis.group == "streams" for size in axis.sizes)
OPEN_FILES = MOST_STREAMS * FILES_PER_STREAM + OTHER_FILES


def within(axes: list[Axis], open_files: int) -> list[Axis]:
    """The axes with no more streams than so many open files allow."""
    most = (open_files - OTHER_FILES) // FILES_PER_STREAM
    fitting = []
    for axis in axes:
        if axis.group == "streams":
            if most <= axis.sizes[-2]:
                raise Failed(f"{open_files} open files are too few for more than {axis.sizes[-2]} streams")
            axis = replace(axis, sizes=tuple(min(size, most) for size in axis.sizes))
        fitting.append(axis)
    return fitting
