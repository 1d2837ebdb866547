"""Tables from stored results: `table.md` beside them, and the README's between its markers."""

import json
from collections.abc import Callable
from pathlib import Path

from .figures import (
    ByRound,
    Figure,
    Result,
    Spread,
    by_round,
    cpu_us,
    differences,
    errors,
    events_per_read,
    idle_mib,
    kib_per_stream,
    latency_us,
    per_second,
    proxies,
    ratios,
    rounds,
    served_us,
)
from .work import IDLE, WORKS, Work

Text = Callable[[float], str]

BASE = "nginx"
DIRECT = "direct"
WEIR, AUDIT, CONSOLE = "weir", "audit", "console"
TITLES = {
    BASE: "nginx",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
    WEIR: "Weir",
    AUDIT: "Weir, audit on",
    CONSOLE: "Weir, audit on, its console reloaded",
    DIRECT: "no proxy",
}
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
# A median share of the core above this is told: the figures are then not to be trusted to a percent.
FOREIGN_SHARE_TOLD = 0.03


def title(proxy: str) -> str:
    return TITLES.get(proxy, f"Weir, {proxy}")


def read(folder: Path) -> tuple[list[Result], dict]:
    """The results of a run, and what they were measured on."""
    lines = (folder / "raw.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], json.loads((folder / "machine.json").read_text())


def complete(results: list[Result], least_rounds: int) -> bool:
    """Whether a run may stand in the README: every work, each of the four proxies, enough rounds."""
    works = {work.name for work in WORKS} | {IDLE}
    names = {name for name in TITLES if name not in (DIRECT, CONSOLE)}
    done = {(result["round"], result["work"], result["proxy"]) for result in results}
    numbers = {result["round"] for result in results}
    wanted = {(number, work, name) for number in numbers for work in works for name in names}
    return len(numbers) >= least_rounds and wanted <= done


def readme_block(results: list[Result], machine: dict, folder: str) -> str:
    """What stands between the README's markers. `folder` is the results' folder as the README links it."""
    versions = ", ".join(f"{title(name)} {machine['versions'][name]}" for name in proxies(results) if name != DIRECT)
    return "\n".join(
        [
            f"Medians of {rounds(results)} interleaved rounds, {machine['date']}, on {machine['cores']} cores of"
            f" {machine['cpu']}: {versions}.",
            "One worker each, pinned to a core. × is the CPU time beside nginx's in the same round. Weir does all of",
            "its work, journal, metering and metrics included; the others only look up the key and rewrite headers.",
            "",
            f"![CPU time beside nginx's, and memory per open stream]({folder}/plot.png)",
            "",
            cpu_table(results),
            "",
            other_table(results),
            "",
            "What a record of each request costs, with its header lines, in files and in the history: CPU time beside that of",
            "Weir without audit in the same round.",
            "",
            audit_table(results),
            "",
            f"All figures: [table.md]({folder}/table.md).",
        ]
    )


def table_page(results: list[Result], machine: dict) -> str:
    """`table.md`."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        f"# {rounds(results)} interleaved rounds, {machine['date']}",
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_mib']} MiB; {machine['system']}, Linux"
        f" {machine['kernel']}; commit {machine['commit']}; {versions}.",
        "All figures are medians over the rounds; ranges are the lowest and the highest round. What each column means"
        " is told in [benches/README.md](../../README.md).",
        *noise(results),
        cpu_table(results),
        other_table(results),
        audit_table(results),
        *([console_table(results)] if CONSOLE in proxies(results) else []),
    ]
    for work in WORKS:
        if any(result["work"] == work.name for result in results):
            parts += [f"## {work.title} (`{work.name}`)", work_table(results, work)]
    return "\n\n".join(parts) + "\n"


def noise(results: list[Result]) -> list[str]:
    """A warning, if others took the proxies' core."""
    share = Spread.of(result["foreign_share"] for result in results if "foreign_share" in result)
    if share is None or share.median < FOREIGN_SHARE_TOLD:
        return []
    taken = f"{share.median:.0%} of a measured core (median; {share.high:.0%} at worst)"
    return [f"**Not quiet:** other processes took {taken}. These figures are not for quoting."]


def cpu_table(results: list[Result]) -> str:
    """A row for each work: nginx's time, the others' ratios to it."""
    names = [name for name in proxies(results) if name != DIRECT]
    rows = []
    for work in WORKS:
        base = by_round(results, work.name, BASE, cpu_us(work))
        cells = []
        for name in names:
            values = by_round(results, work.name, name, cpu_us(work))
            if name == BASE or not base:
                cells.append(median_text(values, time_text))
            else:
                cells.append(median_text(ratios(values, base), ratio_text))
        if any(cell != MISSING for cell in cells):
            rows.append([f"{work.title}, per event" if work.unit == "event" else work.title, *cells])
    return markdown(["CPU time per request", *map(title, names)], rows)


def audit_table(results: list[Result]) -> str:
    """What records cost: the ratio of Weir with audit to Weir without, work by work."""
    rows = []
    for work in WORKS:
        without, beside = (by_round(results, work.name, name, cpu_us(work)) for name in (WEIR, AUDIT))
        spread = Spread.of(ratios(beside, without).values()) if without and beside else None
        if spread:
            label = f"{work.title}, per event" if work.unit == "event" else work.title
            rows.append([label, ratio_text(spread.median), f"{spread.low:.2f}–{spread.high:.2f}"])
    return markdown(["Audit on, beside off", "median", "range"], rows)


def console_table(results: list[Result]) -> str:
    """What it costs that somebody reloads the console: of what serves, of all, and in time."""
    rows = []
    for work in WORKS:
        figures = [served_us(work), cpu_us(work), latency_us(work, "p50"), latency_us(work, "p99")]
        pairs = [[by_round(results, work.name, name, figure) for name in (AUDIT, CONSOLE)] for figure in figures]
        spreads = [Spread.of(ratios(beside, without).values()) for without, beside in pairs]
        if spreads[0]:
            label = f"{work.title}, per event" if work.unit == "event" else work.title
            texts = [f"{ratio_text(spread.median)} ({spread.low:.2f}–{spread.high:.2f})" if spread else MISSING for spread in spreads]
            rows.append([label, *texts])
    return markdown(["Console reloaded, beside not", "CPU of what serves", "CPU of all", "p50", "p99"], rows)


def other_table(results: list[Result]) -> str:
    """Latency and memory, as they are."""
    names = [name for name in proxies(results) if name != DIRECT]
    by_name = {work.name: work for work in WORKS}
    wanted: list[tuple[str, str, Figure, Text]] = [
        ("p99 at 4,000/s", "json-rate", latency_us(by_name["json-rate"], "p99"), time_text),
        (
            "p99 of an event's delay, 1,000 streams at 20 ms",
            "paced-20ms",
            latency_us(by_name["paced-20ms"], "p99"),
            time_text,
        ),
        ("events per read of the client, SSE as fast as possible", "sse-fast", events_per_read, "{:.1f}".format),
        ("memory per open stream, at 20 ms", "paced-20ms", kib_per_stream, "{:.1f} KiB".format),
        ("memory per open stream, at 50 ms", "paced-50ms", kib_per_stream, "{:.1f} KiB".format),
        ("memory idle, with 1,000 keys", IDLE, idle_mib, "{:.1f} MiB".format),
    ]
    rows = []
    for label, work, figure, text in wanted:
        cells = [median_text(by_round(results, work, name, figure), text) for name in names]
        if any(cell != MISSING for cell in cells):
            rows.append([label, *cells])
    counts = [sum(sum(errors(result).values()) for result in results if result["proxy"] == name) for name in names]
    rows.append(["errors in all works", *map(str, counts)])
    return markdown(["Latency, memory, errors", *map(title, names)], rows)


def work_table(results: list[Result], work: Work) -> str:
    """A row for each proxy, with every figure."""
    base = by_round(results, work.name, BASE, cpu_us(work))
    quantiles = ["p50", "p99", "p999"]
    direct = {quantile: by_round(results, work.name, DIRECT, latency_us(work, quantile)) for quantile in quantiles}
    head = ["", "CPU", "beside nginx", "range", f"{work.unit}s/s", "p50", "p99", "p99.9"]
    head += ["added p50", "added p99"] if work.added_latency else []
    head += ["events/read"] if work.streams() else []
    head += ["KiB/stream"] if work.paced() else []
    head += ["load busy", "errors"]
    rows = []
    for name in proxies(results):
        mine = [result for result in results if (result["work"], result["proxy"]) == (work.name, name)]
        if not mine:
            continue

        def over_rounds(figure: Figure, name: str = name) -> ByRound:
            return by_round(results, work.name, name, figure)

        cpu = over_rounds(cpu_us(work))
        beside = Spread.of(ratios(cpu, base).values())
        row = [title(name), median_text(cpu, time_text)]
        row += [ratio_text(beside.median), f"{beside.low:.2f}–{beside.high:.2f}"] if beside else [MISSING, MISSING]
        row.append(median_text(over_rounds(per_second(work)), "{:,.0f}".format))
        latency = {quantile: over_rounds(latency_us(work, quantile)) for quantile in quantiles}
        row += [median_text(latency[quantile], time_text) for quantile in quantiles]
        if work.added_latency:
            added = [differences(latency[quantile], direct[quantile]) for quantile in ["p50", "p99"]]
            row += [median_text(values, time_text) if name != DIRECT else MISSING for values in added]
        row += [median_text(over_rounds(events_per_read), "{:.2f}".format)] if work.streams() else []
        row += [median_text(over_rounds(kib_per_stream), "{:.1f}".format)] if work.paced() else []
        row.append(median_text(over_rounds(lambda result: result["load"]["busy"]), "{:.0%}".format))
        row.append(errors_text(mine))
        rows.append(row)
    return markdown(head, rows)


def errors_text(results: list[Result], found: Callable[[Result], dict[str, int]] = errors) -> str:
    total: dict[str, int] = {}
    for result in results:
        for kind, count in found(result).items():
            total[kind] = total.get(kind, 0) + count
    return ", ".join(f"{kind} {count}" for kind, count in total.items()) or "0"


MISSING = "–"


def median_text(values: ByRound, text: Text) -> str:
    spread = Spread.of(values.values())
    return text(spread.median) if spread else MISSING


def ratio_text(ratio: float) -> str:
    return f"{ratio:.2f}×"


def time_text(us: float | None) -> str:
    if us is None:
        return MISSING
    if abs(us) >= 10_000:
        return f"{us / 1000:.1f} ms"
    if abs(us) >= 1000:
        return f"{us / 1000:.2f} ms"
    if abs(us) >= 100:
        return f"{us:.0f} µs"
    return f"{us:.1f} µs" if abs(us) >= 10 else f"{us:.2f} µs"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def between_markers(text: str, block: str, first: str = BEGIN, last: str = END) -> str:
    """`text` with `block` between its markers, instead of what was there."""
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"no {first} … {last}")
    return f"{before}{first}\n{block}\n{last}{after}"
