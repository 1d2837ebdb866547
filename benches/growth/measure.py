"""One measurement: a gateway of one size started afresh, the load through it, and what its ledger says of it."""

import time
from pathlib import Path

from ..compare.measure import Bench, measure_running, open_site, started, warm_up
from ..compare.process import Failed, Process
from ..compare.work import client_keys
from .axes import Axis
from .gateway import GrownWeir, Shape

# The store is written at the start, when there is nothing to write, and again five seconds later.
STORED_AFTER = 7.0
# It is written when the gateway then takes less than this share of its core. A crowded machine may take long.
QUIET_SHARE = 0.05
QUIET_LOOK = 0.5
QUIET_TIMEOUT = 60.0


def measure(bench: Bench, axis: Axis, size: int, program: Path, seconds: float) -> dict:
    shape, work = axis.shape(size), axis.work(size)
    proxy = GrownWeir(program, shape)
    with open_site(bench, client_keys(shape.keys), axis.cores()) as site, started(site, proxy) as running:
        process = running.process
        begun = {"ready_seconds": round(proxy.ready_seconds, 4), "start_pss_kib": process.pss_kib()}
        # What a key costs the first time is not what it costs.
        warmed_up = warm_up(site, running, each_key=True)
        if axis.stored:
            wait_until_stored(process, proxy.ready_seconds)
        begun["warmed_up_threads_ns"] = process.threads_ns()
        result = {**begun, **measure_running(site, running, work, seconds, warmed_up)}
        if work.counted:
            result["astray"] = {by: astray(shape, by, running.used(by)) for by in ["key", "channel"]}
        elif result["load"]["open_streams"] != size:
            raise Failed(f"only {result['load']['open_streams']} of {size} streams were open")
        return result


def wait_until_stored(process: Process, ready_seconds: float) -> None:
    time.sleep(max(ready_seconds + STORED_AFTER - process.seconds(), 0.0))
    while True:
        before = process.cpu_ns()
        time.sleep(QUIET_LOOK)
        if process.cpu_ns() - before < QUIET_SHARE * QUIET_LOOK * 1e9:
            return
        if process.seconds() > QUIET_TIMEOUT:
            raise Failed(f"{process.name} finds no rest after its warm-up")


def astray(shape: Shape, by: str, used: dict[str, int]) -> int:
    """How many keys or channels had requests and should have had none, or the other way round."""
    return len(shape.expected_use(by) ^ used.keys())
