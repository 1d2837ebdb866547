"""What a check is, and the list of all.

Knows nothing of what any of them does, nor of where results are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

# In the order of their numbers.
CHECKS: list["Check"] = []


class Unable(Exception):
    """What a check needs is not to be had on this machine. Says what."""


@dataclass(frozen=True)
class Run:
    """How a check is to run."""

    # The full counts; otherwise a version of seconds.
    long: bool

    def many(self, long: int, short: int) -> int:
        """How often, or how many."""
        return long if self.long else short


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    passed: bool
    # Weir's figure, in a few words: it is published.
    figure: str
    # The same of others, by name, where they can run the same.
    rivals: dict[str, str] = field(default_factory=dict)
    # What is missing and why, if it did not pass; or what has to be known to read the figure.
    note: str = ""


@dataclass(frozen=True)
class Check:
    """One line of the scorecard."""

    number: int
    # What is tested.
    name: str
    # How.
    how: str
    # What it takes to pass.
    demand: str
    # Whether CI runs a short version of it.
    short: bool
    run: Callable[[Run], Outcome]


def check(
    number: int, name: str, how: str, demand: str, short: bool = True
) -> Callable[[Callable[[Run], Outcome]], Callable[[Run], Outcome]]:
    """Enters a function into the scorecard."""

    def enter(run: Callable[[Run], Outcome]) -> Callable[[Run], Outcome]:
        if any(known.number == number for known in CHECKS):
            raise ValueError(f"there are two checks with the number {number}")
        CHECKS.append(Check(number, name, how, demand, short, run))
        CHECKS.sort(key=lambda known: known.number)
        return run

    return enter
