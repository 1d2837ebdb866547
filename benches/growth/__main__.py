"""The command: python3 -m benches.growth. Measures each size in interleaved rounds, keeps raw results, makes tables."""

import argparse
import datetime
from pathlib import Path

from ..compare import machine, network
from ..compare.common import (
    ROOT,
    TARGET,
    add_places,
    allow_open_files,
    begin,
    exit_with,
    keep,
    kept_folder,
    listed,
    say,
    shown,
)
from ..compare.figures import Result
from ..compare.measure import Bench
from ..compare.proxies import Weir
from ..compare.report import between_markers, read, time_text
from . import figures, plot, report
from .axes import AXES, OPEN_FILES, Axis, within
from .measure import measure

PAGE = ROOT / "benches/README.md"
# Below this the page keeps what it has.
PAGE_ROUNDS = 3


def main() -> int:
    options = arguments()
    if options.report:
        return publish(options.report)
    open_files = allow_open_files(OPEN_FILES)
    axes = within([axis for axis in AXES if axis.name in options.only], open_files)
    described = {
        "date": f"{datetime.date.today()}",
        **machine.describe([Weir("weir", options.weir)], command(options)),
        "open_files": open_files,
        "network": network.enter(),
    }
    folder = options.out or default_folder(options)
    raw = begin(folder, described, options.scratch)
    run(options, axes, raw)
    return publish(folder)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benches.growth", description=__doc__)
    names = [axis.name for axis in AXES]
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument(
        "--only", type=listed(names, "axis"), default=names, metavar="AXIS,…", help=f"of {', '.join(names)}"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="per measurement; streams take 1.5 times that (default: 2)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for the results (default: benches/runs/DATE-growth; of a part: target/bench/growth-TIME)",
    )
    parser.add_argument(
        "--weir",
        type=Path,
        default=TARGET / "release/weir",
        metavar="PATH",
        help="the build (default: target/release/weir)",
    )
    add_places(parser)
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="measure nothing: make tables and plot from results there"
    )
    options = parser.parse_args(given)
    options.weir = options.weir.resolve()
    return options


def command(options: argparse.Namespace) -> list[str]:
    """What measures the same elsewhere: without the paths of this machine."""
    only = ["--only", ",".join(options.only)] if len(options.only) < len(AXES) else []
    measured = ["--rounds", str(options.rounds), "--seconds", f"{options.seconds:g}"]
    return ["python3", "-m", "benches.growth", *measured, *only]


def default_folder(options: argparse.Namespace) -> Path:
    """Whole runs are kept in the repository, parts of one are not."""
    now = datetime.datetime.now()
    if len(options.only) < len(AXES) or options.rounds < PAGE_ROUNDS:
        return TARGET / f"bench/growth-{now:%Y-%m-%d-%H%M%S}"
    return kept_folder(f"{now:%Y-%m-%d}-growth")


def run(options: argparse.Namespace, axes: list[Axis], raw: Path) -> None:
    """Appends a line for each measurement, as soon as it is there."""
    bench = Bench(options.load, options.scratch, include_usage=False)
    for number in range(1, options.rounds + 1):
        for axis in axes:
            # Whoever comes first finds the machine as the axis before left it: each does in turn.
            turn = (number - 1) % len(axis.sizes)
            for position, size in enumerate(axis.sizes[turn:] + axis.sizes[:turn]):
                about = {"round": number, "axis": axis.name, "size": size, "position": position}
                result = {**about, **measure(bench, axis, size, options.weir, options.seconds)}
                keep(raw, result)
                say(f"round {number}/{options.rounds}  {told(axis, result)}")


def told(axis: Axis, result: Result) -> str:
    cpu, rate = figures.cpu_us(axis)(result), figures.per_second(axis)(result)
    memory = f"{figures.end_mib(result):.1f} MiB"
    errors = figures.errors(result) or ""
    return f"{axis.name:<15} {result['size']:>7,} {time_text(cpu):>9} {rate:>9,.0f}/s {memory:>10} {errors}"


def publish(folder: Path) -> int:
    """Tables and plot from what is in `folder`; the page's tables if the run was a whole one."""
    results, described = read(folder)
    (folder / "table.md").write_text(report.table_page(results, described))
    plot.draw(results, described, folder / "plot.png")
    say(f"results, tables and plot: {shown(folder)}")
    failed = [result for result in results if figures.errors(result)]
    for result in failed:
        say(f"errors in round {result['round']}, {result['axis']} {result['size']}: {figures.errors(result)}")
    if figures.complete(results, PAGE_ROUNDS) and folder.resolve().is_relative_to(PAGE.parent):
        linked = str(folder.resolve().relative_to(PAGE.parent))
        block = report.page_block(results, described, linked)
        PAGE.write_text(between_markers(PAGE.read_text(), block, report.FIRST, report.LAST))
        say("benches/README.md has the new tables")
    else:
        say("benches/README.md is left as it is: only a whole run without errors, below its folder, may stand there")
    return 1 if failed else 0


if __name__ == "__main__":
    exit_with("bench-growth", main)
