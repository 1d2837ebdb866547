"""Pure arithmetic on stored results: a figure of each, medians over rounds, ratios within a round.

A result is a line of raw.jsonl: `{"round", "work", "proxy", "position", "idle_pss_kib", "load": {…}, …}`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from .work import Work

# Names of threads begin so, of which there is none that serves clients.
ADMIN_THREADS = ("weir-admin", "weir-identity", "weir-pulse")

Result = dict
Figure = Callable[[Result], float | None]
# A work's results by proxy and round.
ByRound = dict[int, float]


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        listed = list(values)
        return cls(median(listed), min(listed), max(listed)) if listed else None


def by_round(results: list[Result], work: str, proxy: str, figure: Figure) -> ByRound:
    """The figure in each round that has it."""
    return in_rounds([result for result in results if (result["work"], result["proxy"]) == (work, proxy)], figure)


def in_rounds(results: list[Result], figure: Figure) -> ByRound:
    """The same of results of which each round has one."""
    return {result["round"]: value for result in results if (value := figure(result)) is not None}


def ratios(values: ByRound, base: ByRound) -> ByRound:
    """Each round's value by the base's value of the same round."""
    return {number: value / base[number] for number, value in values.items() if base.get(number)}


def differences(values: ByRound, base: ByRound) -> ByRound:
    """Each round's value less the base's of the same round."""
    return {number: value - base[number] for number, value in values.items() if number in base}


def cpu_us(work: Work) -> Figure:
    """CPU microseconds of the proxy per request or event."""

    def figure(result: Result) -> float | None:
        count = units(work, result)
        spent = result["load"]["cpu_ns"]
        return spent / 1000 / count if count and spent else None

    return figure


def served_us(work: Work) -> Figure:
    """The same of those of its threads that serve and record, without those that answer who looks at the gateway."""

    def figure(result: Result) -> float | None:
        count = units(work, result)
        threads = result.get("threads_ns") or {}
        spent = sum(ns for name, ns in threads.items() if not name.startswith(ADMIN_THREADS))
        return spent / 1000 / count if count and spent else None

    return figure


def per_second(work: Work) -> Figure:
    """Requests or events per second."""
    return lambda result: units(work, result) / result["load"]["seconds"]


def units(work: Work, result: Result) -> int:
    return result["load"]["events" if work.unit == "event" else "requests"]


def latency_us(work: Work, quantile: str) -> Figure:
    """Microseconds; `quantile` is `p50`, `p99` or `p999`."""
    return lambda result: (result["load"].get(work.latency) or {}).get(quantile)


def events_per_read(result: Result) -> float | None:
    load = result["load"]
    return load["events"] / load["reads"] if load.get("reads") else None


def idle_mib(result: Result) -> float | None:
    return result["idle_pss_kib"] / 1024 if "idle_pss_kib" in result else None


def kib_per_stream(result: Result) -> float | None:
    """Memory that a stream adds to what the same process occupied before."""
    streams = result["load"].get("open_streams")
    if not streams or "idle_pss_kib" not in result:
        return None
    return (sum(result["load"]["pss_kib"].values()) - result["idle_pss_kib"]) / streams


def errors(result: Result) -> dict[str, int]:
    """Errors by kind, without kinds that did not occur."""
    load = result.get("load", {})
    kinds = {**load.get("errors", {}), "warmup": load.get("warmup_errors", 0)}
    found = {kind: count for kind, count in kinds.items() if count}
    own = result.get("counted")
    if own:
        beyond = max(own["least"] - own["own"], own["own"] - own["most"])
        if beyond > 0:
            found["count"] = beyond
    return found


def rounds(results: list[Result]) -> int:
    return len({result["round"] for result in results})


def proxies(results: list[Result]) -> list[str]:
    """The names of the proxies, in the order of the first round's first work."""
    return list(dict.fromkeys(result["proxy"] for result in results))
