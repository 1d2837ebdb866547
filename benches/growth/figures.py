"""Pure arithmetic on stored results: a figure of each, over the rounds, beside the smallest size in the same round.

A result is a line of raw.jsonl: `{"round", "axis", "size", "position", "ready_seconds", "load": {…}, …}`.
"""

from ..compare import figures
from ..compare.figures import ByRound, Figure, Result, differences, in_rounds, ratios
from .axes import AXES, Axis

# What the ledger's threads are called: its own and those of its store.
LEDGER_THREADS = ("weir-fold", "weir-sync", "sled-", "log flusher")


def of(results: list[Result], axis: Axis, size: int) -> list[Result]:
    return [result for result in results if (result["axis"], result["size"]) == (axis.name, size)]


def sizes(results: list[Result], axis: Axis) -> list[int]:
    """Those that were measured, from the smallest."""
    return sorted({result["size"] for result in results if result["axis"] == axis.name})


def over_rounds(results: list[Result], axis: Axis, size: int, figure: Figure) -> ByRound:
    return in_rounds(of(results, axis, size), figure)


def beside_smallest(results: list[Result], axis: Axis, size: int, figure: Figure) -> ByRound:
    """Each round's figure by that of the smallest size in the same round."""
    smallest = sizes(results, axis)[0]
    return ratios(over_rounds(results, axis, size, figure), over_rounds(results, axis, smallest, figure))


def cpu_us(axis: Axis) -> Figure:
    """CPU microseconds per request or event."""
    return lambda result: figures.cpu_us(axis.work(result["size"]))(result)


def per_second(axis: Axis) -> Figure:
    """Requests or events per second."""
    return lambda result: figures.per_second(axis.work(result["size"]))(result)


def delay_us(result: Result) -> float | None:
    """The 99th percentile of the time from the mock's write of an event to the load's read."""
    return (result["load"].get("event_delay_us") or {}).get("p99")


def ready_ms(result: Result) -> float:
    return result["ready_seconds"] * 1000


def start_mib(result: Result) -> float:
    return result["start_pss_kib"] / 1024


def end_mib(result: Result) -> float:
    """At the window's end: each key was used, streams are open."""
    return sum(result["load"]["pss_kib"].values()) / 1024


def ledger_us(result: Result) -> float:
    """Of the CPU microseconds per request, those of the ledger's threads."""
    load, threads = result["load"], result["threads_ns"]
    return load["cpu_ns"] / 1000 / load["requests"] * ledger_ns(threads) / sum(threads.values())


def first_store_ms(result: Result) -> float:
    """CPU milliseconds of the ledger's threads before the window."""
    return ledger_ns(result["warmed_up_threads_ns"]) / 1e6


def ledger_ns(threads: dict[str, int]) -> int:
    return sum(spent for name, spent in threads.items() if name.startswith(LEDGER_THREADS))


def kib_per_stream(results: list[Result], axis: Axis, size: int) -> ByRound:
    """Memory that a stream adds, by what is more than with the fewest streams in the same round.

    What a gateway keeps free at rest is no base: a few streams would fit into it.
    """
    smallest = sizes(results, axis)[0]
    if size == smallest:
        return {}
    more = differences(over_rounds(results, axis, size, end_mib), over_rounds(results, axis, smallest, end_mib))
    return {number: mib * 1024 / (size - smallest) for number, mib in more.items()}


def busy(result: Result) -> float:
    return result["load"]["busy"]


def errors(result: Result) -> dict[str, int]:
    """Errors by kind, without kinds that did not occur."""
    astray = sum(result.get("astray", {}).values())
    return {**figures.errors(result), **({"astray": astray} if astray else {})}


def complete(results: list[Result], least_rounds: int) -> bool:
    """Whether a run may stand on the page: every size of every axis in enough rounds, without an error."""
    numbers = {result["round"] for result in results}
    done = {(result["round"], result["axis"], result["size"]) for result in results}
    wanted = {(number, axis.name, size) for number in numbers for axis in AXES for size in sizes(results, axis)}
    whole = all(len(sizes(results, axis)) == len(axis.sizes) for axis in AXES)
    return whole and len(numbers) >= least_rounds and wanted <= done and not any(map(errors, results))
