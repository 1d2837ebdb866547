"""What the last long run of each check found, and the page that shows it.

A check that is run again replaces its own line; all others stay, each with its date and commit.
"""

import datetime
import json
import subprocess
from pathlib import Path

from .board import CHECKS, Check, Outcome

HERE = Path(__file__).resolve().parent
KEPT = HERE / "results.json"
PAGE = HERE / "README.md"
MARK = "<!-- made by `make trust` from here on -->"


def keep(check: Check, outcome: Outcome, seconds: float) -> None:
    """Writes the result down, in the place of the last one."""
    kept = load()
    kept[str(check.number)] = {
        "date": f"{datetime.date.today()}",
        "commit": commit(),
        "passed": outcome.passed,
        "figure": outcome.figure,
        "rivals": outcome.rivals,
        "note": outcome.note,
        "seconds": round(seconds),
    }
    ordered = dict(sorted(kept.items(), key=lambda item: int(item[0])))
    KEPT.write_text(json.dumps(ordered, indent=2, ensure_ascii=False) + "\n")


def publish() -> None:
    """Writes the page: what stands above the mark stays."""
    above = PAGE.read_text().split(MARK)[0]
    PAGE.write_text(f"{above}{MARK}\n\n{table()}\n")


def table() -> str:
    """The scorecard."""
    kept = load()
    rivals = ["nginx", "HAProxy"]
    lines = [
        "| # | test | passes if | Weir | nginx | HAProxy | |",
        "| ---: | --- | --- | --- | --- | --- | --- |",
    ]
    notes = []
    for check in CHECKS:
        result = kept.get(str(check.number))
        if result is None:
            lines.append(f"| {check.number} | {check.name} | {check.demand} | not run yet | | | |")
            continue
        others = " | ".join(result["rivals"].get(rival, "") for rival in rivals)
        verdict = "passes" if result["passed"] else "**fails**"
        lines.append(f"| {check.number} | {check.name} | {check.demand} | {result['figure']} | {others} | {verdict} |")
        if result["note"]:
            notes.append(f"- **{check.number}, {check.name}**: {result['note']}")
    passed = sum(result["passed"] for result in kept.values())
    ways = [f"- **{check.number}, {check.name}**: {check.how}" for check in CHECKS]
    dates = sorted({f"{result['date']} at {result['commit']}" for result in kept.values()})
    return "\n".join(
        [
            f"{passed} of {len(CHECKS)} pass. Measured on {', '.join(dates) or 'no day yet'}.",
            "",
            *lines,
            *(["", "### What to know of these figures", *notes] if notes else []),
            "",
            "### How each is tested",
            *ways,
        ]
    )


def load() -> dict[str, dict]:
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def commit() -> str:
    command = ["git", "-C", HERE, "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "no commit"
