"""Starting, stopping, changing, and the change of processes under clients that do not stop."""

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..board import Outcome, Run, check
from ..live import Load, verify
from ..servers import KEY, HaProxy, Nginx, Weir, local, program

STREAM = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"count"}]}'


def command(weir: Weir, *words: str) -> subprocess.CompletedProcess:
    """`weir WORDS` with its configuration; the caller looks at the exit code."""
    command = [str(local.WEIR), *words, "-c", str(weir.configuration)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


class Upgraded(Weir):
    """A gateway whose process changes."""

    def __enter__(self):
        super().__enter__()
        self.pids = [self.child.pid]
        return self

    def upgrade(self, *words):
        done = command(self, "upgrade", *words)
        if done.returncode == 0:
            self.pids.append(int(re.search(r"^process (\d+) serves now", done.stdout, re.M)[1]))
        return done

    def await_end(self, pids, seconds=60):
        # The first is this process's own child, and has to be asked.
        def gone(pid):
            self.child.poll()
            return ended(pid)

        local.wait_for("the end of replaced processes", lambda: all(map(gone, pids)), seconds)

    def __exit__(self, *_):
        end(self.pids[1:] if hasattr(self, "pids") else [])
        super().__exit__()


def ended(pid: int) -> bool:
    """Whether it is gone, or nobody has asked yet how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] in "ZX"
    except OSError:
        return True


def end(pids: list[int]):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGINT)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + local.STOP_SECONDS
    for pid in pids:
        while not ended(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not ended(pid):
            os.kill(pid, signal.SIGKILL)


@check(
    9,
    "binary upgrade under load with live streams",
    how="`weir upgrade`, again and again, while clients stream, connect anew and keep connections; each answer is compared with"
    " what the provider sent, and the totals with its ledger. nginx: USR2, then QUIT to the old master. HAProxy: USR2 to the"
    " master, which runs its program anew",
    demand="0 refused, 0 cut, nothing lost or counted twice",
)
def upgrade(run: Run) -> Outcome:
    streams, times = run.many(500, 30), run.many(20, 2)
    with local.Demo() as demo:
        with Upgraded(demo.mock, demo.mock_key) as weir:
            demo.forget()
            with Load(weir.address, KEY, streams, words=30) as load:
                for _ in range(times):
                    time.sleep(0.5)
                    done = weir.upgrade()
                    if done.returncode != 0:
                        return Outcome(False, "an upgrade failed", note=(done.stdout + done.stderr)[-400:])
                time.sleep(0.5)
            weir.await_end(weir.pids[:-1])
            entries = demo.entries()
            wrong = verify(load, entries) or lost(weir, entries)
            figure = f"{times} upgrades, {load.told()}, {wrong or 'totals equal'}"
            passed = not (load.refused or load.cut or wrong) and load.done["stream"] >= streams
        few = run.many(10, 1)
        rivals = {
            "nginx": beside(Daemon, demo, streams, few, usr2_and_quit),
            "HAProxy": beside(Master, demo, streams, few, usr2),
        }
    return Outcome(passed, figure, rivals)


def lost(weir: Weir, entries: list[dict]) -> str:
    """How the totals differ from the provider's ledger, if they do."""
    expected = [len(entries), sum(e["usage"]["output"] for e in entries), sum(e["events"] for e in entries)]
    names = ["requests", "output_tokens", "events"]
    deadline = time.monotonic() + local.SETTLE_SECONDS
    while (found := [sum(row[name] for row in weir.usage()) for name in names]) != expected:
        if time.monotonic() > deadline:
            return f"{names} are {found} and not {expected}"
        time.sleep(0.1)
    return ""


class Master(HaProxy):
    """HAProxy with a master process, which hands the sockets to each new worker."""

    def __init__(self, upstream: str):
        super().__init__(upstream)
        folder = Path(self.folder.name)
        file = folder / "haproxy.cfg"
        # More connections than descriptors here would end it.
        text = re.sub(r"maxconn \d+", "maxconn 4000", file.read_text())
        file.write_text(text.replace(
            "global\n", f"global\n    stats socket {folder}/stats mode 600 level admin expose-fd listeners\n", 1))
        self.command = [program("haproxy"), "-W", "-db", "-f", str(file)]


class Daemon(Nginx):
    """nginx as a daemon: one that is not takes no USR2."""

    def __init__(self, upstream: str):
        super().__init__(upstream)
        file = Path(self.folder.name, "nginx.conf")
        file.write_text(file.read_text().replace("daemon off;", "daemon on;"))

    def master(self) -> int | None:
        try:
            return int(Path(self.folder.name, "pid").read_text())
        except (OSError, ValueError):
            return None

    def await_start(self):
        super().await_start()
        self.pids = [local.wait_for("nginx", self.master, local.START_SECONDS)]

    def __exit__(self, *_):
        end(getattr(self, "pids", []))
        super().__exit__()


def beside(server, demo, streams: int, times: int, change) -> str:
    """The same load before a rival, which `change` changes."""
    demo.forget()
    with server(demo.mock) as rival, Load(rival.address, demo.mock_key, streams, words=30) as load:
        for _ in range(times):
            time.sleep(0.5)
            change(rival)
        time.sleep(0.5)
    wrong = verify(load, demo.entries())
    return f"{times} times, {load.told()}{', ' + wrong if wrong else ''}"


def usr2_and_quit(nginx: Daemon):
    *older, old = nginx.pids
    # While the one before it serves its last streams it takes no upgrade.
    local.wait_for("the end of an old master", lambda: all(map(ended, older)), 60)
    os.kill(old, signal.SIGUSR2)
    nginx.pids.append(local.wait_for(
        "a new master of nginx", lambda: nginx.master() not in (None, old) and nginx.master(), 10))
    # As its manual has it: look at the new one, then stop the old one.
    local.wait_for("its worker", lambda: children(nginx.pids[-1]), 10)
    os.kill(old, signal.SIGQUIT)


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def usr2(haproxy: Master):
    before = children(haproxy.child.pid)
    os.kill(haproxy.child.pid, signal.SIGUSR2)
    local.wait_for("a new worker of HAProxy", lambda: children(haproxy.child.pid) not in ("", before), 10)


# What takes the sockets and does not serve: {do} is done with them.
TAKER = """\
#!{python}
import json, os, socket, sys, time, signal
if sys.argv[1] == "check":
    sys.exit(0)
line = socket.socket(socket.AF_UNIX)
line.connect({socket!r})
line.sendall(b'{{"ask":"take","version":1}}\\n')
said, taken, _, _ = socket.recv_fds(line, 65536, 128)
assert json.loads(said)["say"] == "sockets" and len(taken) > 3, said
{do}
"""

BAD_PROGRAMS = {
    "is missing": None,
    "is no program": "nothing that runs\n",
    "takes no configuration": "#!/bin/sh\necho 'weir.yaml:1:1: no' >&2\nexit 1\n",
    "hangs at its check": "#!/bin/sh\nexec sleep 600\n",
    "ends at its start": "#!/bin/sh\n[ \"$1\" = check ] || exit 7\n",
    "hangs at its start": "#!/bin/sh\n[ \"$1\" = check ] || exec sleep 600\n",
    "is killed with the sockets": TAKER.replace("{do}", "os.kill(os.getpid(), signal.SIGKILL)"),
    "ends with the sockets": TAKER.replace("{do}", "sys.exit(0)"),
    "hangs with the sockets": TAKER.replace("{do}", "time.sleep(600)"),
    "says nonsense": TAKER.replace("{do}", "line.sendall(b'{{\"say\":\"done\",\"pid\":1}}\\n'); time.sleep(600)"),
}


@check(
    10,
    "failed upgrade",
    how="programs that are missing, are none, refuse the configuration, hang, end, or die or hang with the sockets in their"
    " hands; a configuration with a mistake; an address that is taken. Under load",
    demand="the old process goes on serving each time, `weir upgrade` fails and says why; 0 refused, 0 cut",
)
def failed_upgrade(run: Run) -> Outcome:
    attempts = run.many(50, 12)
    told = 0
    with local.Demo() as demo, Upgraded(demo.mock, demo.mock_key) as weir:
        bad = [bad_program(weir, text) for text in BAD_PROGRAMS.values()]
        kinds = [*(lambda path=path: weir.upgrade("--binary", path, "--within", "1s") for path in bad),
                 lambda: with_configuration(weir, lambda written: written.update(chanels=[])),
                 lambda: with_configuration(weir, lambda written: written["listen"].append({"address": demo.mock}))]
        demo.forget()
        with Load(weir.address, KEY, 5) as load:
            for number in range(attempts):
                done = kinds[number % len(kinds)]()
                said = done.stdout + done.stderr
                if done.returncode != 1 or len(said) < 20 or weir.child.poll() is not None:
                    names = [*BAD_PROGRAMS, "a mistake in the configuration", "an address that is taken"]
                    return Outcome(False, f"{told} of {attempts}", note=f"{names[number % len(kinds)]}: {said[-300:]}")
                told += 1
        left = [pid for pid in map(int, children(weir.child.pid).split()) if not ended(pid)]
        wrong = verify(load, demo.entries()) or (f"{len(left)} processes are left" if left else "")
        again = weir.upgrade()
        if again.returncode != 0:
            wrong = f"no upgrade afterwards: {again.stdout}{again.stderr}"[-300:]
    figure = f"{told} of {attempts} failed and said why; {load.told()}{'; ' + wrong if wrong else ''}"
    return Outcome(not (load.refused or load.cut or wrong), figure)


def bad_program(weir: Weir, text: str | None) -> str:
    folder = Path(weir.folder.name)
    path = folder / f"bad-{len(list(folder.glob('bad-*')))}"
    if text is not None:
        path.write_text(text.format(python=sys.executable, socket=str(weir.data / "upgrade.sock"))
                        if "{python}" in text else text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def with_configuration(weir: Upgraded, change):
    """An upgrade with another configuration, which does not stay."""
    good = weir.configuration.read_text()
    written = json.loads(good)
    change(written)
    weir.configuration.write_text(json.dumps(written))
    try:
        return weir.upgrade()
    finally:
        weir.configuration.write_text(good)


@check(
    11,
    "reload under load",
    how="`weir reload` with another key and another limit each time, while clients stream, connect anew and keep connections."
    " nginx: HUP. HAProxy: USR2 to the master",
    demand="0 errors",
)
def reload(run: Run) -> Outcome:
    streams, times = run.many(100, 15), run.many(1000, 30)
    with local.Demo() as demo:
        with Weir(demo.mock, demo.mock_key) as weir:
            demo.forget()
            with Load(weir.address, KEY, streams) as load:
                for number in range(times):
                    weir.written["keys"][1:] = [{"name": f"more-{number}", "sha256": f"{number + 1:064x}",
                                                 "limits": {"rpm": number + 1}}]
                    weir.write()
                    done = command(weir, "reload")
                    if done.returncode != 0:
                        return Outcome(False, "a reload failed", note=(done.stdout + done.stderr)[-400:])
            entries = demo.entries()
            wrong = verify(load, entries) or lost(weir, entries)
            in_force = f"weir_config_version {times + 1}" in weir.metrics()
        figure = f"{times} reloads, {load.told()}, {wrong or 'totals equal'}"
        passed = in_force and not (load.refused or load.cut or wrong)
        few = run.many(100, 2)
        rivals = {
            "nginx": beside(Nginx, demo, streams, few, hang_up),
            "HAProxy": beside(Master, demo, streams, few, usr2),
        }
    return Outcome(passed, figure, rivals)


def hang_up(nginx: Nginx):
    before = children(nginx.child.pid)
    os.kill(nginx.child.pid, signal.SIGHUP)
    local.wait_for("a new worker of nginx", lambda: children(nginx.child.pid) not in ("", before), 10)


@check(
    12,
    "bad configuration",
    how="the file is mutated at random (characters, lines, indents, values, words) until it is wrong, and a reload is asked for",
    demand="each is refused with file, line and column, and the last good configuration stays in force",
)
def bad_configuration(run: Run) -> Outcome:
    wanted = run.many(500, 100)
    dice = random.Random(5)
    refused = unnamed = taken = 0
    with local.Demo() as demo, Weir(demo.mock, demo.mock_key) as weir:
        good = yaml(weir.written)
        weir.configuration.write_text(good)

        def put_in_force(text: str):
            weir.configuration.write_text(text)
            status, _, body = local.request(weir.admin, "POST", "/admin/api/reload",
                                            {"authorization": f"Bearer {weir.written['admin']['token']}"})
            return status, json.loads(body)

        version = put_in_force(good)[1]["version"]
        while refused + unnamed < wanted:
            text = mutated(good, dice)
            status, answer = put_in_force(text)
            if status == 200:
                # Some mutations mean something.
                taken += 1
                version = put_in_force(good)[1]["version"]
                continue
            mistakes = answer["error"].get("mistakes", [])
            is_named = status == 422 and mistakes and all(re.search(r"weir\.yaml:\d+:\d+: ", m) for m in mistakes)
            refused, unnamed = refused + bool(is_named), unnamed + (not is_named)
            note = f"{status} {mistakes}"[:300] if not is_named else ""
            body = b'{"model":"gpt-4o","messages":[]}'
            served = local.request(weir.address, "POST", "/v1/chat/completions",
                                   {"authorization": f"Bearer {KEY}", "content-type": "application/json"}, body)[0]
            if note or served != 200 or f"weir_config_version {version}" not in weir.metrics():
                return Outcome(False, f"{refused} of {wanted} refused by line", note=note or f"then a request got {served}")
    return Outcome(True, f"{refused} refused by line and column, 0 taken in part ({taken} mutations were valid)")


def yaml(written: dict) -> str:
    """The configuration as a person would write it."""
    lines = []

    def put(value, indent):
        for name, field in value.items():
            pad = "  " * indent
            if isinstance(field, dict):
                lines.append(f"{pad}{name}:")
                put(field, indent + 1)
            elif isinstance(field, list) and field and isinstance(field[0], dict):
                lines.append(f"{pad}{name}:")
                for item in field:
                    lines.append(f"{pad}  - {json.dumps(item)}")
            else:
                lines.append(f"{pad}{name}: {json.dumps(field)}")

    put(written, 0)
    return "\n".join(lines) + "\n"


def mutated(good: str, dice: random.Random) -> str:
    lines = good.split("\n")
    at = dice.randrange(len(lines) - 1)
    line = lines[at]
    where = dice.randrange(len(line) + 1)
    kind = dice.randrange(8)
    if kind == 0:
        lines[at] = line[:where] + line[where + 1:]
    elif kind == 1:
        lines[at] = line[:where] + dice.choice("{}[]:,'\"&*#|>%@`!\t- ") + line[where:]
    elif kind == 2:
        lines.insert(at, line)
    elif kind == 3:
        del lines[at]
    elif kind == 4:
        lines[at] = " " * dice.randrange(1, 4) + line
    elif kind == 5:
        instead = dice.choice(['"\\u0000"', "-1", "[]", "{}", "null", '"http://"', "1e99"])
        lines[at] = re.sub(r'"[^"]*"', lambda _: instead, line, count=1)
    elif kind == 6:
        lines[at] = re.sub(r"[a-z_]{3,}", lambda word: word[0][1:], line, count=1)
    else:
        return good[: dice.randrange(1, len(good))]
    return "\n".join(lines)


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
            ended_at = {}

            def read():
                headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json",
                           "x-mock-delay-ms": "100"}
                status, _, body = local.request(weir.address, "POST", "/v1/chat/completions", headers, STREAM)
                ended_at.update(at=time.monotonic(), status=status, whole=body.endswith(b"data: [DONE]\n\n"))

            reader = threading.Thread(target=read)
            reader.start()
            local.wait_for("the stream", lambda: "weir_streams_active 1" in weir.metrics(), 5)
            weir.child.send_signal(signal.SIGTERM)
            weir.child.wait(30)
            over = time.monotonic()
            reader.join()
            if ended_at["status"] != 200 or not ended_at["whole"]:
                return Outcome(False, "a stream was cut")
            waits.append(over - ended_at["at"])
    return Outcome(max(waits) <= 1.0, f"{len(waits)} times, 0 cut, at most {max(waits):.2f} s")
