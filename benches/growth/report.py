"""Tables from stored results: `table.md` beside them, and the page's between its markers."""

from collections.abc import Callable

from ..compare.figures import ByRound, Figure, Result, Spread, events_per_read, rounds
from ..compare.report import MISSING, Text, errors_text, markdown, median_text, noise, ratio_text, time_text
from . import figures
from .axes import AXES, EVENTS_PER_SECOND, Axis
from .figures import beside_smallest, cpu_us, over_rounds, per_second

FIRST, LAST = "<!-- growth:begin -->", "<!-- growth:end -->"

# A column: its head, its figure in each round of an axis's size, how it is written.
Column = tuple[str, Callable[[list[Result], Axis, int], ByRound], Text]


def column(head: str, figure: Figure, text: Text) -> Column:
    return head, lambda results, axis, size: over_rounds(results, axis, size, figure), text


MIB = "{:.1f} MiB".format
START = [
    column("ready after", figures.ready_ms, "{:,.0f} ms".format),
    column("memory at start", figures.start_mib, MIB),
]
END = column("memory at the end", figures.end_mib, MIB)
# What a group's tables have beside the CPU time.
COLUMNS: dict[str, list[Column]] = {
    "keys": [
        column("of it ledger", figures.ledger_us, time_text),
        *START,
        END,
        column("first store", figures.first_store_ms, "{:,.0f} ms".format),
    ],
    "channels": START,
    "streams": [
        column("events/read", events_per_read, "{:.2f}".format),
        column("p99 delay", figures.delay_us, time_text),
        END,
        ("per stream", figures.kib_per_stream, "{:.1f} KiB".format),
    ],
    "threads": [column("load busy", figures.busy, "{:.0%}".format)],
}


def page_block(results: list[Result], machine: dict, folder: str) -> str:
    """What stands between the page's markers. `folder` is the results' folder as the page links it."""
    parts = [
        f"Medians of {rounds(results)} interleaved rounds, {machine['date']}, on {machine['cores']} cores of"
        f" {machine['cpu']}: Weir {machine['versions']['weir']}. *Beside* is the CPU time by that of the first row in"
        " the same round, the median of the rounds; *range* their lowest and highest.",
        f"![Cost beside the smallest size]({folder}/plot.png)",
        *tables(results, machine),
        f"Raw: [{folder}]({folder}/raw.jsonl).",
    ]
    return "\n\n".join(parts)


def table_page(results: list[Result], machine: dict) -> str:
    """`table.md`."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        f"# As work grows: {rounds(results)} interleaved rounds, {machine['date']}",
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_mib']} MiB; {machine['system']}, Linux"
        f" {machine['kernel']}; commit {machine['commit']}; {versions}.",
        "All figures are medians over the rounds; ranges are the lowest and the highest round. What is measured is told"
        " in [benches/README.md](../../README.md).",
        *noise(results),
        *tables(results, machine),
    ]
    return "\n\n".join(parts) + "\n"


def tables(results: list[Result], machine: dict) -> list[str]:
    """A table for each axis that was measured, each with what must be known to read it."""
    parts = []
    for axis in AXES:
        if figures.sizes(results, axis):
            parts += [f"**{heading(axis)}**{remark(results, axis, machine)}", table(results, axis)]
    return parts


def heading(axis: Axis) -> str:
    return axis.title.capitalize() if axis.group == axis.name else f"{axis.group.capitalize()}, {axis.title}"


def remark(results: list[Result], axis: Axis, machine: dict) -> str:
    if axis.group == "threads":
        return (
            f": the machine has {machine['cores']} cores, and load and mock never leave one of them alone. What is told"
            " here is what threads cost each other; throughput is bounded by the machine."
        )
    if axis.group == "streams":
        largest = max(figures.sizes(results, axis))
        limit = f" {largest:,} are what {machine['open_files']:,} open files allow." if largest < axis.sizes[-1] else ""
        return f", {EVENTS_PER_SECOND:,} events a second in all.{limit}"
    return ""


def table(results: list[Result], axis: Axis) -> str:
    """A row for each size."""
    columns = COLUMNS[axis.group]
    unit = axis.work(axis.sizes[0]).unit
    head = [axis.counted, f"CPU per {unit}", "beside", "range", f"{unit}s/s"]
    head += [*(name for name, _, _ in columns), "errors"]
    rows = []
    for size in figures.sizes(results, axis):
        cpu = cpu_us(axis)
        row = [f"{size:,}", median_text(over_rounds(results, axis, size, cpu), time_text)]
        row += ratio_cells(beside_smallest(results, axis, size, cpu))
        row.append(median_text(over_rounds(results, axis, size, per_second(axis)), "{:,.0f}".format))
        row += [median_text(found(results, axis, size), text) for _, found, text in columns]
        row.append(errors_text(figures.of(results, axis, size), figures.errors))
        rows.append(row)
    return markdown(head, rows)


def ratio_cells(values: ByRound) -> list[str]:
    spread = Spread.of(values.values())
    return [ratio_text(spread.median), f"{spread.low:.2f}–{spread.high:.2f}"] if spread else [MISSING, MISSING]
