"""The command: python3 -m trust. Runs checks, keeps their results, writes the scorecard."""

import argparse
import sys
import time
import traceback

from . import checks, results
from .board import CHECKS, Check, Outcome, Run, Unable


def main() -> int:
    options = arguments()
    if options.report:
        results.publish()
        return 0
    chosen = [check for check in CHECKS if not options.only or check.number in options.only]
    failed = 0
    for check in chosen:
        if not options.long and not check.short:
            continue
        outcome, seconds = perform(check, options.long)
        failed += not outcome.passed
        verdict = "passed" if outcome.passed else "FAILED"
        print(f"{check.number:>2} {check.name}: {verdict} in {seconds:.0f} s: {outcome.figure}", flush=True)
        for rival, figure in outcome.rivals.items():
            print(f"   {rival}: {figure}", flush=True)
        if outcome.note:
            print(f"   {outcome.note}", flush=True)
        if options.long:
            results.keep(check, outcome, seconds)
    if options.long:
        results.publish()
        print(results.table())
    print(f"{len(chosen)} checks, {failed} failed")
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m trust", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the full counts, which are published (default: short)")
    parser.add_argument(
        "--only", type=lambda text: [int(number) for number in text.split(",")], metavar="N,…", help="these checks"
    )
    parser.add_argument("--report", action="store_true", help="run nothing: write the scorecard from what is kept")
    return parser.parse_args()


def perform(check: Check, long: bool) -> tuple[Outcome, float]:
    """What a check says. One that breaks off has not passed."""
    begun = time.monotonic()
    try:
        outcome = check.run(Run(long))
    except Unable as reason:
        outcome = Outcome(False, "not run here", note=str(reason))
    except Exception as error:  # noqa: BLE001: whatever it was, it is a result of this check and ends no other
        traceback.print_exc()
        outcome = Outcome(False, "broke off", note=f"{type(error).__name__}: {error}"[:400])
    return outcome, time.monotonic() - begun


if __name__ == "__main__":
    assert checks
    sys.exit(main())
