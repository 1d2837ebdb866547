"""What a gateway holds after it has served for long."""

import math
import random
import statistics
import time

from ..board import Outcome, Run, check
from ..clients import Clients
from ..live import Load
from ..load import STREAM, Client, ask, connect, streams_of_http2
from ..servers import KEY, TOKEN, Weir, local, open_files, resident_kib

MIB_AN_HOUR = 1.0
# Connections come and go, so that no two counts are quite alike.
FILES_MORE = 8
SAMPLE_SECONDS = 5
# Found by the same soak with `ledger.keep_minutes: 10m`, in which what is stored does not grow: 0.2 MiB an hour, and the
# same step. And by a heap profile at five times the load: what grows is in the store.
WHY = (
    "it is {:+.2f} MiB an hour in the last two thirds of what is counted (every five minutes: {} MiB). Some 0.5 MiB are there "
    "once, when the journal's first segments are full after 38 minutes; some 0.6 an hour are the store's rows of each minute, "
    "which are kept for two days under a cache of 32 MiB at most: with rows kept for ten minutes it is 0.2 an hour"
)


class Chance(Clients):
    """Whoever does not behave: strangers, clients that leave in mid-stream over either HTTP, requests that are no JSON;
    one of them every `pause` seconds."""

    def __init__(self, address: str, pause: float):
        super().__init__([random.Random(19)])
        self.address, self.pause, self.asked = address, pause, 0

    def ask(self, one: random.Random):
        deeds = [self.stranger, self.leaver, self.leaver_of_http2, self.nonsense]
        while not self.stopped.wait(self.pause):
            one.choice(deeds)(one)
            self.asked += 1

    def stranger(self, one: random.Random):
        client = Client(self.address)
        client.ask(ask().replace(b"wk-trust", b"wk-" + one.randbytes(4).hex().encode()))
        client.close()

    def leaver(self, one: random.Random):
        with connect(self.address) as stream:
            stream.sendall(ask(STREAM))
            time.sleep(one.random() * 0.2)

    def leaver_of_http2(self, one: random.Random):
        with streams_of_http2(self.address, one.randint(1, 8)):
            time.sleep(one.random() * 0.2)

    def nonsense(self, one: random.Random):
        client = Client(self.address)
        client.ask(ask(one.randbytes(one.randint(0, 4000))))
        client.close()


@check(
    19,
    "soak",
    how="90 minutes of streams, requests on connections that are kept and that are not, clients that leave, strangers, nonsense, "
        "a reload with another limit a minute and a scrape of the metrics every 5 seconds; memory (PSS) and descriptors are taken every 5 "
        "seconds, and those of the first third are left out",
    demand=f"memory grows by less than {MIB_AN_HOUR:.0f} MiB an hour, descriptors stay as many",
)
def soak(run: Run) -> Outcome:
    seconds = run.many(90 * 60, 15)
    memory, files = [], []
    with local.Demo() as demo, Weir(demo.mock, demo.mock_key) as weir:
        load = Load(weir.address, KEY, streams=20, fresh=1, kept=1, pause=0.1)
        with Chance(weir.address, 0.25) as chance, load:
            begun, reloads = time.monotonic(), 0
            while (now := time.monotonic() - begun) < seconds:
                memory.append((now / 3600, resident_kib(weir) / 1024))
                files.append(open_files(weir))
                weir.metrics()
                if now > (reloads + 1) * run.many(60, 3):
                    reloads += 1
                    relimit(weir, reloads)
                    # What the provider remembers is memory too, on the same machine.
                    demo.forget()
                time.sleep(run.many(SAMPLE_SECONDS, 1) - (time.monotonic() - begun) % run.many(SAMPLE_SECONDS, 1))
        weir.still_runs()
    memory, files = memory[len(memory) // 3:], files[len(files) // 3:]
    slope, more = mib_an_hour(memory), growth(files)
    figure = (f"{load.total + chance.asked} requests in {seconds / 60:.0f} minutes, {reloads} reloads, {load.refused} refused, "
              f"{load.cut} cut; {memory[-1][1]:.1f} MiB at the end, {slope:+.2f} MiB an hour; {files[-1]} descriptors, {more:+d}")
    # In seconds caches fill: all that can be seen is that nothing runs away.
    bound = MIB_AN_HOUR if run.long else math.inf
    held = memory[-1][1] - memory[0][1] < 16
    passed = slope < bound and held and more <= FILES_MORE and load.refused == load.cut == 0
    return Outcome(passed, figure, {}, "" if passed else WHY.format(mib_an_hour(memory[len(memory) // 3:]), told(memory)))


def mib_an_hour(memory: list[tuple[float, float]]) -> float:
    """By how much it grows, of hours and MiB."""
    return statistics.linear_regression(*zip(*memory, strict=True)).slope


def told(memory: list[tuple[float, float]]) -> str:
    """Every five minutes, in few words."""
    return ", ".join(f"{mib:.1f}" for _, mib in memory[::300 // SAMPLE_SECONDS])


def relimit(weir: Weir, number: int):
    """A reload that changes a limit, to one that nobody reaches."""
    weir.written["keys"][0]["limits"] = {"rpm": 1_000_000 + number}
    weir.write()
    status, _, told = local.request(weir.admin, "POST", "/admin/api/reload", {"authorization": f"Bearer {TOKEN}"})
    if status != 200:
        raise RuntimeError(f"a reload was answered with {status}: {told!r}")


def growth(files: list[int]) -> int:
    """By how many descriptors there are more in the last third than in the first, as a median."""
    third = max(1, len(files) // 3)
    return round(statistics.median(files[-third:]) - statistics.median(files[:third]))
