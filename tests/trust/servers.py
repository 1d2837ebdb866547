"""Who is tested, and what stands behind it: Weir with a configuration of the test's own, Debian's nginx and HAProxy
as plain reverse proxies with the same limits where they have them, and a provider that keeps its own ledger.

Everything is on free ports of 127.0.0.1 and ends with its `with`.
"""

import hashlib
import json
import os
import pwd
import resource
import shutil
import socket
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import local  # noqa: E402

from .board import Unable  # noqa: E402

KEY = "wk-trust-0123456789abcdef0123456789abcdef"
TOKEN = "weir-admin-for-trust"


def program(name: str) -> str:
    """Where a program is; what is not installed ends the check, not the run."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{local.TOOLS}/bin")
    if not found:
        raise Unable(f"{name} is not installed: tests/setup.sh trust")
    return found


class Weir(local.Process):
    """`weir run` before an upstream at `upstream` (host:port), whose key is `upstream_key`. `extra` is put over the
    configuration, section by section; `wrapper` are words in front of the command (`strace …`).

    `local.Demo` has a provider that keeps a ledger: `Weir(demo.mock, demo.mock_key)`."""

    def __init__(self, upstream: str, upstream_key: str = "sk-trust", extra: dict | None = None,
                 wrapper: list[str] | None = None, environment: dict | None = None, data: Path | None = None):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-trust-")
        self.address, self.admin = f"127.0.0.1:{local.free_port()}", f"127.0.0.1:{local.free_port()}"
        self.data = data or Path(self.folder.name) / "data"
        self.configuration = Path(self.folder.name) / "weir.yaml"
        self.written = configuration(self.address, self.admin, self.data, upstream, upstream_key)
        for section, value in (extra or {}).items():
            known = self.written.get(section)
            self.written[section] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
        self.write()
        super().__init__([*(wrapper or []), local.WEIR, "run", "-c", self.configuration], environment)

    def write(self):
        """Writes the configuration as it now is."""
        # JSON is YAML.
        self.configuration.write_text(json.dumps(self.written, indent=1))

    def await_start(self):
        def ready():
            self.still_runs()
            return local.answers(self.admin, "/readyz")

        local.wait_for("weir run", ready, local.START_SECONDS)

    def usage(self, by="key"):
        """The rows of the admin API."""
        return local.usage(self.admin, TOKEN, by)

    def metrics(self) -> str:
        return local.request(self.admin, "GET", "/metrics")[2].decode()

    def __exit__(self, *_):
        super().__exit__()
        self.folder.cleanup()


def configuration(listen: str, admin: str, data: Path, upstream: str, upstream_key: str) -> dict:
    """One channel of each protocol to `upstream`, one key, no limits."""
    models = {"openai": ["gpt-*"], "anthropic": ["claude-*"], "gemini": ["gemini-*"]}
    return {
        "listen": [{"address": listen}],
        "admin": {"address": admin, "token": TOKEN},
        "data_dir": str(data),
        "server": {"grace_period": "30s"},
        "channels": [
            {"name": protocol, "protocol": protocol, "base_url": f"http://{upstream}",
             "keys": [{"name": "main", "value": upstream_key}], "models": served}
            for protocol, served in models.items()
        ],
        "keys": [{"name": "trust", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
    }


class Nginx(local.Process):
    """nginx as a plain reverse proxy. `limits` are directives for its server."""

    name = "nginx"

    def __init__(self, upstream: str, limits: str = ""):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-trust-")
        folder = self.folder.name
        self.address = f"127.0.0.1:{local.free_port()}"
        # As root the worker would become nobody, who may not write below this folder.
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        places = "\n".join(f"{kind}_temp_path {folder}/{kind};"
                           for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        Path(folder, "nginx.conf").write_text(f"""\
daemon off;
{user}
pid {folder}/pid;
error_log {folder}/errors crit;
worker_processes 1;
worker_rlimit_nofile 65536;
events {{ worker_connections 20000; }}
http {{
    {places}
    access_log off;
    client_max_body_size 32m;
    upstream provider {{ server {upstream}; keepalive 256; }}
    server {{
        listen {self.address} backlog=4096;
        {limits}
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
""")
        super().__init__([program("nginx"), "-c", f"{folder}/nginx.conf"])

    def await_start(self):
        local.wait_for("nginx", lambda: connects(self.address), local.START_SECONDS)

    def __exit__(self, *_):
        super().__exit__()
        self.folder.cleanup()


class HaProxy(local.Process):
    """HAProxy as a plain reverse proxy. `limits` are lines of its frontend."""

    name = "HAProxy"

    def __init__(self, upstream: str, limits: str = "", defaults: str = ""):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-trust-")
        self.address = f"127.0.0.1:{local.free_port()}"
        Path(self.folder.name, "haproxy.cfg").write_text(f"""\
global
    nbthread 1
    maxconn {most_connections()}
defaults
    mode http
    timeout connect 3s
    timeout client 300s
    timeout server 300s
    timeout http-request 10s
    {defaults}
frontend clients
    bind {self.address}
    {limits}
    default_backend provider
backend provider
    http-reuse always
    server provider {upstream}
""")
        super().__init__([program("haproxy"), "-db", "-f", f"{self.folder.name}/haproxy.cfg"])

    def await_start(self):
        local.wait_for("haproxy", lambda: connects(self.address), local.START_SECONDS)

    def __exit__(self, *_):
        super().__exit__()
        self.folder.cleanup()


def most_connections() -> int:
    """HAProxy does not start without two descriptors for each."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 20000 if most == resource.RLIM_INFINITY else min(20000, most // 2 - 100)


def connects(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def resident_kib(process: local.Process) -> int:
    """Proportional memory of a process and its children, in KiB."""
    total = 0
    for pid in family(process.child.pid):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as lines:
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [one for child in task.read_text().split() for one in family(int(child))]
        except OSError:
            continue
    return found


def open_files(process: local.Process) -> int:
    """How many descriptors it has."""
    return len(os.listdir(f"/proc/{process.child.pid}/fd"))
