"""The plot of a run: CPU time beside nginx's in each work, and memory per open stream.

Drawn without a background, in colours that stand out on a white page and on a dark one.
"""

from itertools import cycle
from pathlib import Path

from .figures import Result, Spread, by_round, cpu_us, kib_per_stream, proxies, ratios, rounds
from .report import BASE, DIRECT, title
from .work import WORKS

TEXT = "#7b848f"
GRID = "#7b848f"
COLOURS = {BASE: "#8b949e", "haproxy": "#4c9be8", "envoy": "#a371f7", "weir": "#f08c2e"}
# Further builds of Weir.
VARIANT_COLOURS = ["#2fa37c", "#d65c9d", "#b8a01f", "#5a7fd6"]
# Of a group's width.
GROUP = 0.82
# A bar beyond this ends there, with its figure written on it: one rival must not flatten the others.
HIGHEST_RATIO = 6.0
LABELS = {
    "json": "small JSON,\nsaturated",
    "json-rate": "small JSON\nat 4,000/s",
    "sse-fast": "SSE as fast\nas possible",
    "paced-20ms": "1,000 streams\nat 20 ms",
    "paced-50ms": "1,000 streams\nat 50 ms",
    "body-100k": "100 KB\nbodies",
    "connect": "a connection\nper request",
    "refused": "unknown\nkeys: 401",
}


def draw(results: list[Result], machine: dict, file: Path) -> None:
    """Writes the PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": TEXT, "axes.labelcolor": TEXT})
    names = [name for name in proxies(results) if name != DIRECT]
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=[5, 1.25], layout="constrained")
    figure.patch.set_alpha(0)
    colour = colours(names)
    cpu_panel(left, results, [name for name in names if name != BASE], colour)
    memory_panel(right, results, names, colour)
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles, labels, loc="upper left", ncols=len(labels), frameon=False, labelcolor=TEXT)
    figure.supxlabel(
        f"medians of {rounds(results)} interleaved rounds (whiskers: lowest and highest) · {machine['date']} ·"
        f" {machine['cpu']} · one worker on one core each",
        fontsize=8.5,
        color=TEXT,
    )
    figure.savefig(file, dpi=150, transparent=True)
    plt.close(figure)


def cpu_panel(axes, results: list[Result], names: list[str], colour: dict[str, str]) -> None:
    works = [work for work in WORKS if by_round(results, work.name, BASE, cpu_us(work))]
    width = GROUP / max(len(names), 1)
    top = 1.0
    for index, name in enumerate(names):
        offset = (index - (len(names) - 1) / 2) * width
        drawn = False
        for place, work in enumerate(works):
            base = by_round(results, work.name, BASE, cpu_us(work))
            spread = Spread.of(ratios(by_round(results, work.name, name, cpu_us(work)), base).values())
            if spread is None:
                continue
            height = min(spread.median, HIGHEST_RATIO)
            label = None if drawn else title(name)
            axes.bar(place + offset, height, width * 0.92, color=colour[name], label=label, zorder=2)
            high = min(spread.high, HIGHEST_RATIO)
            axes.plot([place + offset] * 2, [min(spread.low, HIGHEST_RATIO), high], color=TEXT, linewidth=1, zorder=3)
            bold = "bold" if name == "weir" else "normal"
            above = max(height, high) + 0.03
            figure = f"{spread.median:.2f}"
            axes.text(place + offset, above, figure, ha="center", fontsize=8.5, weight=bold, color=TEXT)
            drawn, top = True, max(top, height, high)
    axes.axhline(1, color=colour[BASE], linewidth=1.4, linestyle=(0, (5, 3)), zorder=4, label="nginx = 1")
    axes.set_xticks(range(len(works)), [LABELS[work.name] for work in works], fontsize=9.5)
    axes.set_xlim(-0.55, len(works) - 0.45)
    # Room for the legend above the highest bar and its figure.
    axes.set_ylim(0, top * 1.25)
    axes.set_title(
        "CPU time per request or event, beside nginx's (less is better)", loc="left", fontsize=12, weight="bold", pad=12
    )
    plain(axes)


def memory_panel(axes, results: list[Result], names: list[str], colour: dict[str, str]) -> None:
    work = "paced-50ms" if any(result["work"] == "paced-50ms" for result in results) else "paced-20ms"
    shown = []
    for name in names:
        spread = Spread.of(by_round(results, work, name, kib_per_stream).values())
        if spread is not None:
            shown.append((name, spread.median))
    for place, (name, value) in enumerate(shown):
        axes.bar(place, value, 0.72, color=colour[name], zorder=2)
        bold = "bold" if name == "weir" else "normal"
        axes.text(place, value, f"{value:.0f}", ha="center", va="bottom", fontsize=9, weight=bold, color=TEXT)
    axes.set_xticks(range(len(shown)), [title(name) for name, _ in shown], fontsize=9, rotation=30)
    if shown:
        axes.set_ylim(0, max(value for _, value in shown) * 1.15)
    axes.set_title("KiB per open stream", loc="left", fontsize=12, weight="bold", pad=12)
    plain(axes)


def colours(names: list[str]) -> dict[str, str]:
    variants = [name for name in names if name not in COLOURS]
    return {**COLOURS, **dict(zip(variants, cycle(VARIANT_COLOURS), strict=False))}


def plain(axes) -> None:
    """No box, a faint grid behind the bars."""
    axes.patch.set_alpha(0)
    axes.tick_params(colors=TEXT, length=0)
    axes.grid(axis="y", color=GRID, alpha=0.25, linewidth=0.8, zorder=0)
    for side in ["top", "right", "left"]:
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
