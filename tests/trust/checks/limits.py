"""Limits and money under a thousand at once, and under clocks that jump."""

import datetime
import os
import signal
import tempfile
import time
from pathlib import Path

from .. import cargo, wire
from ..board import Outcome, Run, Unable, check
from ..servers import KEY, Weir, configuration, program
from ..sides import CHAT

# What each answer costs: five tokens of a tenth of a cent.
ANSWER = b'{"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}'
PRICES = 'models: { "gpt-*": { input: "0", output: "1000" } }\n'
COST = 0.005
DAY, MONTH = 4, 6
BODY = b'{"model":"gpt-4o","max_tokens":5}'


@check(
    30,
    "one key's budget under a thousand at once",
    how="a thousand requests at once for a budget of a hundred, over HTTP/1.1 and HTTP/2, ten times",
    demand="exactly a hundred are served, and the budget is spent to the cent",
    short=False,
)
def budget(run: Run) -> Outcome:
    return cargo.tests("a_thousand_at_once_spend_a_budget", "--test it", {"WEIR_TRUST_ROUNDS": "10"})


@check(
    31,
    "one key's rate under a thousand at once",
    how="a thousand requests at once for a limit of a hundred a minute, over HTTP/1.1 and HTTP/2, ten times",
    demand="exactly a hundred are served",
    short=False,
)
def rate(run: Run) -> Outcome:
    return cargo.tests("a_thousand_at_once_get_exactly", "--test it", {"WEIR_TRUST_ROUNDS": "10"})


class Clock:
    """The time of day of one process, which can be put to anything while it runs."""

    def __init__(self, folder: str):
        library = next((path for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
        if library is None:
            raise Unable("faketime is not installed: tests/setup.sh trust")
        program("faketime")
        self.file = Path(folder, "time")
        self.environment = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "TZ": "UTC"}

    def put(self, time_of_day: str):
        """To that moment, from which it goes on."""
        offset = datetime.datetime.fromisoformat(time_of_day + "+00:00").timestamp() - time.time()
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{offset:+.3f}s\n")
        os.replace(beside, self.file)
        # The gateway looks at the time of day anew for each wake; a little later all threads have.
        time.sleep(0.3)


def asked(address: str) -> int:
    return wire.ask(address, wire.post(CHAT, KEY, BODY))[0]


def spent(address: str, most: int) -> int:
    """How many are served before one is refused."""
    for served in range(most + 1):
        if asked(address) == 429:
            return served
    return most + 1


# The time of day, and how many more a key may have that has `DAY` a day and `MONTH` a month.
JUMPS = [
    ("2026-01-30T12:00:00", DAY, "a day's budget"),
    ("2026-01-30T23:59:50", 0, "ten seconds before the day ends"),
    ("2026-01-31T00:00:10", 2, "another day, what is left of the month"),
    ("2026-01-31T23:59:50", 0, "ten seconds before the month ends"),
    ("2026-02-01T00:00:10", DAY, "another month"),
    ("2026-01-31T12:00:00", 0, "back into a month that was over"),
    ("2025-06-15T12:00:00", 0, "back by half a year"),
    ("2026-02-01T12:00:00", 0, "the same day again"),
    ("2026-02-02T00:00:10", 2, "the next day"),
    ("2026-02-28T23:59:50", 0, "ten seconds before the end of February"),
    ("2026-03-01T00:00:10", DAY, "March"),
    ("2027-12-31T23:59:50", DAY, "forward by almost two years"),
    ("2028-01-01T00:00:10", DAY, "another year"),
    ("2028-02-29T12:00:00", DAY, "a day that few years have"),
    ("2028-03-01T00:00:10", DAY, "the day after it"),
]


@check(
    32,
    "clocks that jump, and the ends of months",
    how="the real program under libfaketime: its clock is put before and behind the ends of days, months, years and of February, "
    "and back, with and without a kill -9 in between; at each stop requests are made until one is refused",
    demand="no budget opens early, none twice",
)
def clocks(run: Run) -> Outcome:
    wrong, stops, asks = [], 0, 0
    script = lambda _number, connection: connection.sendall(  # noqa: E731
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER) is None
    for killed in [False, True] if run.long else [True]:
        with tempfile.TemporaryDirectory(prefix="weir-trust-") as folder, wire.Upstream(script) as upstream:
            clock = Clock(folder)
            Path(folder, "prices.yaml").write_text(PRICES)
            budgets = {"day": f"{DAY * COST:.3f}", "month": f"{MONTH * COST:.3f}"}
            declared = configuration("x", "y", Path(folder), upstream.address, "sk-trust")["keys"]
            extra = {"prices": f"{folder}/prices.yaml", "keys": [{**declared[0], "limits": {"budget_usd": budgets}}]}
            data = Path(folder, "data")
            clock.put(JUMPS[0][0])
            weir = Weir(upstream.address, extra=extra, environment=clock.environment, data=data)
            weir.__enter__()
            try:
                for moment, expected, what in JUMPS:
                    clock.put(moment)
                    if killed:
                        weir.child.send_signal(signal.SIGKILL)
                        weir.child.wait()
                        weir.__exit__()
                        weir = Weir(upstream.address, extra=extra, environment=clock.environment, data=data)
                        weir.__enter__()
                    served = spent(weir.address, expected + 2)
                    stops, asks = stops + 1, asks + served + 1
                    if served != expected:
                        wrong.append(f"{what} ({moment}, {'killed' if killed else 'running'}): {served} for {expected}")
            finally:
                weir.__exit__()
    return Outcome(not wrong, f"{stops} stops of the clock, {asks} requests, {len(wrong)} budgets open early, late or twice",
                   note="; ".join(wrong[:4]))
