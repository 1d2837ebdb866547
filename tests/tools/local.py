"""Starts Weir, and what stands beside it, on free ports of 127.0.0.1, and ends them again.

Knows nothing of what is asked of them.
"""

import atexit
import http.client
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
WEIR = Path(os.environ.get("WEIR_BIN", TARGET / "debug/weir"))
# Where `tests/setup.sh` puts what the system does not have.
TOOLS = TARGET / "tools"


# A start takes under a second; a busy machine gets the rest.
START_SECONDS = 30
# A settlement is folded in the background.
SETTLE_SECONDS = 10
STOP_SECONDS = 15

_running = []


@atexit.register
def _end_all():
    """What is left when the interpreter ends, whatever ended it."""
    for process in list(_running):
        process.__exit__()


# As an interrupt a SIGTERM unwinds even through a test runner.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def tool(name, *places):
    """A program: the first of `places` below `TOOLS` that exists, or else the system's."""
    return next((TOOLS / place for place in places if (TOOLS / place).exists()), name)


def free_port():
    """A port that nothing listens on, below those that the kernel gives to clients: none of them gets it meanwhile."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_for(what, look, seconds):
    """What `look` returns, once it is true."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return seen


def request(address, method, path, headers=None, body=None, timeout=30):
    """One request without any client library's habits: status, headers, and the bytes as they came."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def answers(address, path):
    """Whether GET of `path` is answered with 200."""
    try:
        return request(address, "GET", path, timeout=5)[0] == 200
    except OSError:
        return False


class Process:
    """A command with its output in a file; leaving the `with` ends it."""

    def __init__(self, command, environment=None, directory=None):
        self.command = [str(word) for word in command]
        self.environment = {**os.environ, **(environment or {})}
        self.directory = directory

    def __enter__(self):
        self.log = tempfile.NamedTemporaryFile(mode="r", prefix="weir-test-", suffix=".log")
        with open(self.log.name, "wb") as output:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.directory,
            )
        _running.append(self)
        try:
            self.await_start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def await_start(self):
        """Returns once the command does its work. Subclasses say when."""

    def output(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def still_runs(self):
        """Raises with the command's last words if it has ended."""
        if self.child.poll() is not None:
            words = shlex.join(self.command)
            raise RuntimeError(f"{words} ended with {self.child.returncode}:\n{self.output()[-2000:]}")

    def __exit__(self, *_):
        if self in _running:
            _running.remove(self)
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            try:
                self.child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.log.close()


class Demo(Process):
    """`weir demo`: a gateway, and the mock behind it."""

    def __init__(self):
        super().__init__([WEIR, "demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])

    def await_start(self):
        def printed():
            self.still_runs()
            return "What is metered" in self.output()

        wait_for("weir demo", printed, START_SECONDS)
        text = self.output()
        self.gateway, self.admin = re.search(r"^Weir on http://(\S+), admin on http://(\S+)$", text, re.M).groups()
        self.mock, self.mock_key = re.search(r"^mock provider on http://(\S+), its key (\S+)$", text, re.M).groups()
        self.key = re.search(r"^client key +(\S+)$", text, re.M)[1]
        self.token = re.search(r"^admin token +(\S+)$", text, re.M)[1]
        # Every title `# operation, form` stands above its line.
        self.curl_lines = re.findall(r"^# (\S+, \w+)\n(.+)$", text, re.M)

    def entries(self):
        """The mock's ledger."""
        return json.loads(request(self.mock, "GET", "/mock/ledger")[2])["entries"]

    def forget(self):
        request(self.mock, "DELETE", "/mock/ledger")

    def usage(self, by):
        return usage(self.admin, self.token, by)


class Gateway(Process):
    """`weir run` with a configuration; `{listen}`, `{admin}`, `{data}` and `{sha256}` in it are filled in."""

    token = "weir-admin-for-tests"

    def __init__(self, configuration):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-test-")
        self.gateway, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.key, sha256 = new_key()
        self.configuration = Path(self.folder.name) / "weir.yaml"
        filled = {"listen": self.gateway, "admin": self.admin, "data": f"{self.folder.name}/data", "sha256": sha256}
        for name, value in filled.items():
            configuration = configuration.replace(f"{{{name}}}", value)
        self.configuration.write_text(configuration)
        super().__init__([WEIR, "run", "-c", self.configuration])

    def await_start(self):
        def ready():
            self.still_runs()
            return answers(self.admin, "/readyz")

        wait_for("weir run", ready, START_SECONDS)

    def usage(self, by):
        return usage(self.admin, self.token, by)

    def usage_command(self, by):
        """The rows of `weir usage --json`."""
        command = [WEIR, "usage", "--by", by, "--json", "-c", self.configuration]
        return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)["rows"]

    def __exit__(self, *_):
        super().__exit__()
        self.folder.cleanup()


def new_key():
    """What `weir key new` prints: a key and its SHA-256."""
    printed = subprocess.run([WEIR, "key", "new"], check=True, capture_output=True, text=True, timeout=30).stdout
    return re.search(r"key: +(\S+)", printed)[1], re.search(r"sha256: +(\S+)", printed)[1]


def usage(admin, token, by):
    """The rows of the admin API."""
    status, _, body = request(admin, "GET", f"/admin/api/usage?by={by}", {"authorization": f"Bearer {token}"})
    if status != 200:
        raise RuntimeError(f"usage: {status} {body!r}")
    return json.loads(body)["rows"]


def configuration(models, upstream, upstream_key):
    """A configuration for `Gateway`: one channel to `upstream` for each protocol, which serves the
    models listed for it, and one key."""
    channels = [
        {"name": protocol, "protocol": protocol, "base_url": f"http://{upstream}",
         "keys": [{"name": "main", "value": upstream_key}], "models": served}
        for protocol, served in models.items()
    ]
    # JSON is YAML.
    return json.dumps({
        "listen": [{"address": "{listen}"}],
        "admin": {"address": "{admin}", "token": Gateway.token},
        "data_dir": "{data}",
        "channels": channels,
        "keys": [{"name": "test", "sha256": "{sha256}"}],
    }, indent=2)
