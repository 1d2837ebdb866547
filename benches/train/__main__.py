"""The command: python3 -m benches.train PROGRAM. Does the comparison's works, and the demo's, with an instrumented build.

Measures nothing. The build writes its profile when it ends, where it was told to when it was built.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from ..compare.common import add_places, allow_open_files, exit_with, say
from ..compare.measure import Bench, measure
from ..compare.process import Failed
from ..compare.proxies import Weir
from ..compare.work import WORKS

# Instrumented code is slow, and what counts is which of it runs how often beside the rest.
SECONDS = 1.0
# Every operation of each protocol, plain and streamed, which the works do not have.
DEMOS = 10
OPEN_FILES = 8192


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benches.train", description=__doc__)
    parser.add_argument("program", type=Path, help="the instrumented build")
    add_places(parser)
    options = parser.parse_args()
    if (allowed := allow_open_files(OPEN_FILES)) < OPEN_FILES:
        raise Failed(f"{OPEN_FILES} open files are needed; the limit is {allowed}")
    options.scratch.mkdir(parents=True, exist_ok=True)
    program = options.program.resolve()
    for limits, audit in [(False, False), (True, False), (False, True)]:
        for work in WORKS:
            say(f"train: {work.title}{', with limits' if limits else ''}{', with audit' if audit else ''}")
            weir = Weir("weir", program, limits, audit)
            result = measure(Bench(options.load, options.scratch, include_usage=False), work, weir, SECONDS)
            if wrong := {kind: count for kind, count in result["load"]["errors"].items() if count}:
                say(f"train: errors, which do no harm here: {wrong}")
    for _ in range(DEMOS):
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            subprocess.run([str(program), "demo", "--once"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    exit_with("train", main)
