"""The command: python3 -m benches.compare. Measures in interleaved rounds, keeps raw results, makes table and plot."""

import argparse
import datetime
import sys
from pathlib import Path

from . import machine, network, plot, report
from .common import ROOT, TARGET, add_places, allow_open_files, begin, exit_with, keep, kept_folder, listed, say, shown
from .figures import Result, cpu_us, errors, per_second
from .measure import Bench, measure, measure_direct, measure_idle
from .process import Failed
from .proxies import Envoy, HaProxy, Nginx, Proxy, Weir
from .work import IDLE, WORKS, Work

# Below this the README keeps what it has.
README_ROUNDS = 5
# What a work with 1,000 streams needs, twice over.
OPEN_FILES = 8192


def main() -> int:
    options = arguments()
    if options.report:
        return publish(options.report)
    if (allowed := allow_open_files(OPEN_FILES)) < OPEN_FILES:
        raise Failed(f"{OPEN_FILES} open files are needed; the limit is {allowed}")
    proxies = chosen_proxies(options)
    described = {
        "date": f"{datetime.date.today()}",
        **machine.describe(proxies, ["python3", "-m", "benches.compare", *sys.argv[1:]]),
        "network": network.enter(),
    }
    folder = options.out or default_folder(options)
    raw = begin(folder, described, options.scratch)
    run(options, proxies, raw)
    return publish(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benches.compare", description=__doc__)
    names = [work.name for work in WORKS] + [IDLE]
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument(
        "--only", type=listed(names, "work"), default=names, metavar="WORK,…", help=f"of {', '.join(names)}"
    )
    parser.add_argument(
        "--proxies",
        type=lambda text: text.split(","),
        metavar="NAME,…",
        help="of direct, nginx, haproxy, envoy and the names of Weir's builds (default: all)",
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="per measurement; streams take 1.5 times that (default: 4)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for the results (default: benches/runs/DATE; of a part: target/bench/TIME)",
    )
    parser.add_argument(
        "--weir",
        action="append",
        metavar="[NAME=]PATH",
        help="a build of Weir; several are compared with each other (default: target/release/weir)",
    )
    parser.add_argument(
        "--include-usage", action="store_true", help="streams ask for the usage report, so that no gateway needs to"
    )
    parser.add_argument(
        "--limits", action="store_true", help="Weir's keys have limits of every kind, a budget and prices"
    )
    parser.add_argument(
        "--console", action="store_true", help="beside Weir with audit, the same while its console is reloaded again and again"
    )
    add_places(parser)
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="measure nothing: make table and plot from results there"
    )
    return parser.parse_args()


def chosen_proxies(options: argparse.Namespace) -> list[Proxy]:
    builds = [build.rpartition("=")[::2] for build in options.weir or [str(TARGET / "release/weir")]]
    known: list[Proxy] = [
        Nginx(),
        HaProxy(),
        Envoy(),
        *(Weir(name or "weir", Path(path).resolve(), options.limits) for name, path in builds),
        *(
            Weir(report.AUDIT if not name else f"{name}-{report.AUDIT}", Path(path).resolve(), options.limits, audit=True)
            for name, path in builds
        ),
    ]
    if options.console:
        program = Path(builds[0][1]).resolve()
        known.append(Weir(report.CONSOLE, program, options.limits, audit=True, console=True))
    by_name = {proxy.name: proxy for proxy in known}
    if len(by_name) < len(known):
        raise Failed("two builds have the same name: --weir NAME=PATH")
    options.direct = options.proxies is None or report.DIRECT in options.proxies
    wanted = [name for name in options.proxies or by_name if name != report.DIRECT]
    if unknown := [name for name in wanted if name not in by_name]:
        raise Failed(f"no proxy {', '.join(unknown)}; there are {report.DIRECT}, {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def default_folder(options: argparse.Namespace) -> Path:
    """Whole runs are kept in the repository, parts of one are not."""
    now = datetime.datetime.now()
    part = len(options.only) < len(WORKS) + 1 or options.proxies or options.weir or options.include_usage or options.limits or options.console or options.rounds < README_ROUNDS
    if part:
        return TARGET / f"bench/{now:%Y-%m-%d-%H%M%S}"
    return kept_folder(f"{now:%Y-%m-%d}")


def run(options: argparse.Namespace, proxies: list[Proxy], raw: Path) -> None:
    """Appends a line for each measurement, as soon as it is there."""
    bench = Bench(options.load, options.scratch, options.include_usage)
    contestants: list[Proxy | None] = [*([None] if options.direct else []), *proxies]
    works: list[Work | None] = [work for work in [*WORKS, None] if (work.name if work else IDLE) in options.only]
    for number in range(1, options.rounds + 1):
        # Whoever comes first finds the machine as the work before left it: each does in turn.
        turn = (number - 1) % len(contestants)
        for work in works:
            for position, proxy in enumerate(contestants[turn:] + contestants[:turn]):
                if proxy is None and not (work and work.direct):
                    continue
                name = proxy.name if proxy else report.DIRECT
                about = {"round": number, "work": work.name if work else IDLE, "proxy": name, "position": position}
                result = {**about, **one(bench, work, proxy, options.seconds)}
                keep(raw, result)
                say(f"round {number}/{options.rounds}  {told(work, result)}")


def one(bench: Bench, work: Work | None, proxy: Proxy | None, seconds: float) -> dict:
    if work is None:
        return measure_idle(bench, proxy)
    if proxy is None:
        return measure_direct(bench, work, seconds)
    return measure(bench, work, proxy, seconds)


def told(work: Work | None, result: Result) -> str:
    start = f"{result['work']:<11} {result['proxy']:<10}"
    if work is None:
        return f"{start} {result['idle_pss_kib'] / 1024:.1f} MiB"
    cpu = cpu_us(work)(result)
    found = errors(result)
    return f"{start} {report.time_text(cpu):>9} {per_second(work)(result):>9,.0f}/s {found or ''}"


def publish(folder: Path) -> int:
    """Table and plot from what is in `folder`; the README's table if the run was a whole one."""
    results, described = report.read(folder)
    (folder / "table.md").write_text(report.table_page(results, described))
    plot.draw(results, described, folder / "plot.png")
    say(f"results, table and plot: {shown(folder)}")
    failed = [result for result in results if errors(result)]
    for result in failed:
        say(f"errors in round {result['round']}, {result['work']}, {result['proxy']}: {errors(result)}")
    if report.complete(results, README_ROUNDS) and folder.resolve().is_relative_to(ROOT):
        readme = ROOT / "README.md"
        block = report.readme_block(results, described, shown(folder))
        readme.write_text(report.between_markers(readme.read_text(), block))
        say("README.md has the new table")
    else:
        say("README.md is left as it is: only a whole run below this folder may stand there")
    return 1 if failed else 0


if __name__ == "__main__":
    exit_with("bench", main)
