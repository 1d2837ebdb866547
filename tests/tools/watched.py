"""A gateway before the demo's mock with all sorts of traffic, and Debian's Prometheus that watches it.

Knows the configuration, the requests and Prometheus' HTTP API; nothing of rules and dashboard but where they are.
"""

import json
import socket
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

import local

PROMETHEUS = local.tool("prometheus", "prometheus/usr/bin/prometheus")
RULES = local.ROOT / "conf/prometheus/rules.yml"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
# Two a second and more, so that a scrape a second always finds something new.
PAUSE_SECONDS = 0.2


class Traffic:
    """Requests that are served, refused, broken off and left, until `stop`."""

    def __init__(self, gateway, keys):
        self.address, self.keys = gateway, keys
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.until_it_fails, args=[work]) for work in (self.many, self.slow)]
        self.statuses = {}
        self.failures = []

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def until_it_fails(self, work):
        try:
            work()
        except Exception as failure:  # noqa: BLE001: whatever it was, the test is told
            self.failures.append(failure)

    def many(self):
        while not self.stopping.wait(PAUSE_SECONDS):
            for stream in (False, True):
                self.ask("open", CHAT, "gpt-4o-mini", stream)
                self.ask("limited", MESSAGES, "claude-sonnet-4-5", stream)
            self.ask("open", "/v1beta/models/gemini-2.5-flash:generateContent", None)
            self.ask("open", CHAT, "llama-without-price")
            self.ask("open", CHAT, "gpt-5-mini")  # By way of a channel that nobody answers at.
            self.ask("open", CHAT, "gpt-locked")  # By a key that its upstream does not take.
            self.ask("open", CHAT, "gpt-4o-mini", trouble={"x-mock-status": "500"})
            self.ask("open", CHAT, "gpt-4o-mini", True, trouble={"x-mock-cut-after": "2"})
            self.ask("poor", CHAT, "gpt-4o-mini")
            self.ask("nobody", CHAT, "gpt-4o-mini")
            self.note(local.request(self.address, "GET", "/nowhere")[0])
            self.leave()
            self.mumble()

    def slow(self):
        """One stream after the other that a scrape meets under way."""
        while not self.stopping.is_set():
            self.ask("limited", CHAT, "gpt-4o-mini", True, trouble={"x-mock-delay-ms": "100", "x-mock-words": "20"})

    def ask(self, key, path, model, stream=False, trouble=None):
        headers, body = self.request(key, path, model, stream, trouble)
        self.note(local.request(self.address, "POST", path, headers, body)[0])

    def request(self, key, path, model, stream, trouble):
        body = {"model": model, "stream": stream, "max_tokens": 64, "messages": [{"role": "user", "content": "How deep?"}]}
        if model is None:
            body = {"contents": [{"role": "user", "parts": [{"text": "How deep?"}]}]}
        credential = {"authorization": f"Bearer {self.keys[key]}"}
        return {**credential, "content-type": "application/json", **(trouble or {})}, json.dumps(body)

    def leave(self):
        """A client that goes away in the middle of a stream."""
        headers, body = self.request("open", CHAT, "gpt-4o-mini", True, {"x-mock-delay-ms": "50"})
        lines = [f"POST {CHAT} HTTP/1.1", "host: gateway", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        host, port = self.address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            client.recv(64)

    def mumble(self):
        """A client that speaks no HTTP."""
        host, port = self.address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(b"what?\r\n\r\n")
            client.recv(64)

    def note(self, status):
        self.statuses[status] = self.statuses.get(status, 0) + 1


def gateway(demo):
    """A gateway in front of the demo's mock, whose every metric can move, and its keys."""
    keys = {name: local.new_key() for name in ("open", "limited", "poor")}

    def channel(name, protocol, models, **more):
        keys = [{"name": "main", "value": demo.mock_key}]
        return {"name": name, "protocol": protocol, "base_url": f"http://{demo.mock}", "keys": keys, "models": models, **more}

    budget = {"budget_usd": {"month": "1000"}}
    configuration = {
        "listen": [{"address": "{listen}"}],
        "admin": {"address": "{admin}", "token": local.Gateway.token},
        "data_dir": "{data}",
        "prices": str(local.ROOT / "conf/prices.yaml"),
        "channels": [
            channel("openai", "openai", ["gpt-4o-mini", "gpt-5-mini", "llama-*"], priority=1),
            channel("anthropic", "anthropic", ["claude-sonnet-4-5"], probe={"every": "5s", "pause_on_traffic": False}),
            channel("gemini", "gemini", ["gemini-2.5-flash"]),
            channel("dead", "openai", ["gpt-5-mini"], base_url=f"http://127.0.0.1:{local.free_port()}",
                    cooldown={"failures": 1, "for": "2s"}),
            channel("locked", "openai", ["gpt-locked"], keys=[{"name": "revoked", "value": "sk-revoked"}]),
        ],
        "keys": [
            {"name": "open", "sha256": keys["open"][1]},
            {"name": "limited", "sha256": keys["limited"][1], "limits": {"rpm": 1000000, "concurrency": 100, **budget}},
            # What a request may cost is more than all that it has.
            {"name": "poor", "sha256": keys["poor"][1], "limits": {"budget_usd": {"day": "0.00000001"}}},
        ],
        "audit": {"jsonl": {"directory": "audit"}},
    }
    plain = {name: key for name, (key, _) in keys.items()}
    return local.Gateway(json.dumps(configuration, indent=2)), {**plain, "nobody": "sk-weir-nobody"}


class Prometheus(local.Process):
    """Debian's Prometheus, with the shipped rules, looking at `admin` each second."""

    def __init__(self, admin):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-prometheus-")
        self.address = f"127.0.0.1:{local.free_port()}"
        home = Path(self.folder.name)
        # The rules as shipped, but for groups that are looked at so seldom that a short run would not see them.
        (home / "rules.yml").write_text(RULES.read_text().replace("    interval: 5m\n", ""))
        # JSON is YAML.
        (home / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "weir", "static_configs": [{"targets": [admin]}]}],
        }))
        super().__init__([
            PROMETHEUS, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
            f"--web.listen-address={self.address}", "--log.level=warn",
        ])

    def await_start(self):
        def ready():
            self.still_runs()
            return local.answers(self.address, "/-/ready")

        local.wait_for("prometheus", ready, local.START_SECONDS)

    def ask(self, path, **parameters):
        """`data` of an answer of its API; an error of a query is raised with its words."""
        query = urllib.parse.urlencode(parameters)
        status, _, body = local.request(self.address, "GET", f"/api/v1/{path}?{query}")
        answer = json.loads(body)
        if status != 200 or answer["status"] != "success" or answer.get("warnings"):
            raise RuntimeError(f"{path} {parameters}: {status} {body[:500]!r}")
        return answer["data"]

    def series(self, expression, since=None):
        """The series of an expression now, or of every five seconds since then: their labels and values."""
        if since is None:
            found = self.ask("query", query=expression)
            assert found["resultType"] == "vector", expression
            return [(one["metric"], [float(one["value"][1])]) for one in found["result"]]
        found = self.ask("query_range", query=expression, start=since, end=time.time(), step=5)
        return [(one["metric"], [float(value) for _, value in one["values"]]) for one in found["result"]]

    def __exit__(self, *_):
        super().__exit__()
        self.folder.cleanup()
