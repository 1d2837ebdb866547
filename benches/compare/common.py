"""What the commands share: folders, the limit of open files, results line by line, words on stderr."""

import argparse
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .figures import Result
from .process import Failed

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
# A second run of a day gets a number; more than this are none that anyone keeps.
MOST_RUNS_A_DAY = 100


def kept_folder(name: str) -> Path:
    """Where a whole run is kept in the repository."""
    folders = (ROOT / f"benches/runs/{name}{suffix}" for suffix in ["", *(f"-{n}" for n in range(2, MOST_RUNS_A_DAY))])
    return next(folder for folder in folders if not folder.exists())


def shown(folder: Path) -> str:
    resolved = folder.resolve()
    return str(resolved.relative_to(ROOT)) if resolved.is_relative_to(ROOT) else str(folder)


def allow_open_files(wanted: int) -> int:
    """Lets this process and what it starts open `wanted` files, or as many as it may; returns the limit then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= wanted
    if not enough:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (PermissionError, ValueError):
            # Only some may raise it.
            pass
    allowed = wanted if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def listed(names: list[str], what: str) -> Callable[[str], list[str]]:
    """Reads names with commas between them, as an argument's type."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in names]:
            raise argparse.ArgumentTypeError(f"no {what} {', '.join(unknown)}; there are {', '.join(names)}")
        return chosen

    return parse


def add_places(parser: argparse.ArgumentParser) -> None:
    """The options that say where programs and ledgers are."""
    parser.add_argument(
        "--load", type=Path, default=TARGET / "bench/load/release/weir-load", metavar="PATH", help="the load's program"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        default=TARGET / "bench/scratch",
        metavar="DIR",
        help="for configurations and ledgers; on a disk, not in memory",
    )


def begin(folder: Path, described: dict, scratch: Path) -> Path:
    """Makes the folder of the results, which must be new, and says on what they are measured; the raw results' file."""
    folder.mkdir(parents=True)
    (folder / "machine.json").write_text(json.dumps(described, indent=2) + "\n")
    scratch.mkdir(parents=True, exist_ok=True)
    return folder / "raw.jsonl"


def exit_with(command: str, main: Callable[[], int]) -> None:
    """Runs a command, ends the process with its code, and says why it could not go on."""
    # A stop leaves no process behind: the ends of `with` run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except (Failed, FileNotFoundError, FileExistsError) as reason:
        say(f"{command}: {reason}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def keep(raw: Path, result: Result) -> None:
    """Appends a line to the raw results."""
    with raw.open("a") as file:
        file.write(json.dumps(result, separators=(",", ":")) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
