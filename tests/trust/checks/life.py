"""Starting, stopping, changing."""

import signal
import threading
import time

import local

from ..board import Outcome, Run, check
from ..servers import KEY, Weir

STREAM = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"count"}]}'


@check(
    13,
    "SIGTERM",
    how="a stream of two seconds is open when SIGTERM comes; the time from its last byte to the end of the process",
    demand="the stream is whole, and the process ends ≤ 1 s after it",
)
def sigterm(run: Run) -> Outcome:
    waits = []
    for _ in range(run.many(20, 2)):
        with local.Demo() as demo, Weir(demo.mock, demo.mock_key) as weir:
            ended = {}

            def read():
                headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json",
                           "x-mock-delay-ms": "100"}
                status, _, body = local.request(weir.address, "POST", "/v1/chat/completions", headers, STREAM)
                ended.update(at=time.monotonic(), status=status, whole=body.endswith(b"data: [DONE]\n\n"))

            reader = threading.Thread(target=read)
            reader.start()
            local.wait_for("the stream", lambda: "weir_streams_active 1" in weir.metrics(), 5)
            weir.child.send_signal(signal.SIGTERM)
            weir.child.wait(30)
            over = time.monotonic()
            reader.join()
            if ended["status"] != 200 or not ended["whole"]:
                return Outcome(False, "a stream was cut")
            waits.append(over - ended["at"])
    return Outcome(max(waits) <= 1.0, f"{len(waits)} times, 0 cut, at most {max(waits):.2f} s")
