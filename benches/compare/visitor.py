"""A person who reloads the console's overview again and again: python3 -m benches.compare.visitor PORT TOKEN TIMES.

Each time all that a browser fetches of it is fetched, as if nothing were kept: the page, what it names, what the overview
asks of the API, and the stream of live events as far as its first bytes. TIMES are a second's; it ends with SIGTERM and
prints how often it was.
"""

import http.client
import json
import re
import signal
import sys
import time

ASSET = re.compile(r'"(/admin/ui/assets/[^"]+)"')
ASKED = ["session", "overview", "requests?limit=12"]
# A reload that takes longer than this is an error, and the figures would tell of something else.
TIMEOUT = 5.0


def sign_in(port: int, token: str) -> dict[str, str]:
    """The header that a browser sends from then on."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("POST", "/admin/api/login", json.dumps({"token": token}), {"content-type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"login: {answer.status} {answer.read()[:200]!r}")
    cookie = answer.headers["set-cookie"].partition(";")[0]
    connection.close()
    return {"cookie": cookie}


def reload(port: int, signed_in: dict[str, str]) -> None:
    """One time all of it. Raises if something is not there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    page = get(connection, "/admin/ui/", {}).decode()
    for asset in ASSET.findall(page):
        get(connection, asset, {"accept-encoding": "gzip"})
    for path in ASKED:
        get(connection, f"/admin/api/{path}", signed_in)
    connection.request("GET", "/admin/api/events", headers=signed_in)
    stream = connection.getresponse()
    if stream.status != 200 or not stream.read1(1):
        raise RuntimeError(f"events: {stream.status}")
    connection.close()


def get(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> bytes:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
    return body


def main() -> None:
    port, token, times = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    over = False

    def end(*_: object) -> None:
        nonlocal over
        over = True

    signal.signal(signal.SIGTERM, end)
    signed_in = sign_in(port, token)
    begun, count = time.monotonic(), 0
    while not over:
        reload(port, signed_in)
        count += 1
        time.sleep(max(begun + count / times - time.monotonic(), 0))
    print(count, f"{time.monotonic() - begun:.3f}")


if __name__ == "__main__":
    main()
