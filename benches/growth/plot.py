"""The plot of a run: one panel a group of axes, CPU time beside the smallest size's.

Drawn without a background, in colours that stand out on a white page and on a dark one.
"""

from pathlib import Path

from ..compare.figures import Result, Spread, rounds
from ..compare.plot import TEXT, plain
from . import figures
from .axes import AXES, EVENTS_PER_SECOND, GROUPS, Axis

COLOURS = ["#f08c2e", "#4c9be8", "#2fa37c"]
TITLES = {
    "keys": "client keys",
    "channels": "channels",
    "streams": f"open streams, {EVENTS_PER_SECOND:,} events/s",
    "threads": "threads",
}
SERIES = {
    "channels-own": "a model each, the last asked for",
    "channels-same": "one model",
    "channels-by-key": "one model, a channel for each key",
}
# No panel ends below this: a difference of some percent is to look like one.
LEAST_TOP = 2.0


def draw(results: list[Result], machine: dict, file: Path) -> None:
    """Writes the PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": TEXT, "axes.labelcolor": TEXT})
    groups = [group for group in GROUPS if any(figures.sizes(results, axis) for axis in of_group(group))]
    figure, panels = plt.subplots(1, len(groups), figsize=(3.5 * len(groups), 3.8), layout="constrained", squeeze=False)
    figure.patch.set_alpha(0)
    for axes, group in zip(panels[0], groups, strict=True):
        panel(axes, results, group)
    panels[0][0].set_ylabel("CPU per request or event, smallest size = 1")
    figure.supxlabel(
        f"medians of {rounds(results)} interleaved rounds (whiskers: lowest and highest) · {machine['date']} ·"
        f" {machine['cores']} cores of {machine['cpu']}",
        fontsize=8.5,
        color=TEXT,
    )
    figure.savefig(file, dpi=150, transparent=True)
    plt.close(figure)


def of_group(group: str) -> list[Axis]:
    return [axis for axis in AXES if axis.group == group]


def panel(axes, results: list[Result], group: str) -> None:
    drawn = [axis for axis in of_group(group) if figures.sizes(results, axis)]
    top = LEAST_TOP
    # Sizes at even steps: they are powers of ten, but for the threads.
    places = sorted({size for axis in drawn for size in figures.sizes(results, axis)})
    for colour, axis in zip(COLOURS, drawn, strict=False):
        measured = figures.sizes(results, axis)
        beside = {size: figures.beside_smallest(results, axis, size, figures.cpu_us(axis)) for size in measured}
        spreads = {places.index(size): Spread.of(values.values()) for size, values in beside.items() if values}
        medians = [spread.median for spread in spreads.values()]
        label = SERIES.get(axis.name)
        axes.plot(list(spreads), medians, color=colour, marker="o", markersize=5, linewidth=2, label=label, zorder=3)
        for place, spread in spreads.items():
            axes.plot([place, place], [spread.low, spread.high], color=colour, linewidth=1, zorder=2)
            top = max(top, spread.high)
        if spreads:
            last = list(spreads)[-1]
            axes.annotate(
                f"{medians[-1]:.2f}", (last, medians[-1]), (0, 7), textcoords="offset points", ha="center", fontsize=9,
                weight="bold", color=TEXT,
            )
    axes.set_xticks(range(len(places)), [f"{size:,}" for size in places])
    axes.set_xlim(-0.35, len(places) - 0.65)
    axes.set_ylim(0, top * 1.15)
    axes.set_title(TITLES[group], loc="left", fontsize=11, weight="bold")
    if len(drawn) > 1:
        axes.legend(loc="lower left", frameon=False, labelcolor=TEXT, fontsize=8.5)
    plain(axes)
