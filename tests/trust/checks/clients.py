"""What others wrote, before the gateway: the providers' SDKs, a scanner of TLS, checkers of metrics and licences."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import local

from .. import sides
from ..board import Outcome, Run, Unable, check
from ..servers import program

HERE = Path(__file__).resolve().parents[1]
# A part takes seconds; this is for the busiest of machines.
PATIENCE = 300
# For so long a gateway with traffic is watched by Prometheus.
WATCHED_SECONDS = 300


def suites(folder: str, names: list[str], **environment: str) -> tuple[int, list[str]]:
    """Runs suites of Python's unittest that stand elsewhere among the tests: how many tests passed, and which suites did not."""
    python = local.TARGET / "venv/bin/python"
    if not python.exists():
        raise Unable("the SDKs are not installed: tests/setup.sh external")
    passed, failed = 0, []
    for name in names:
        done = subprocess.run([python, f"tests/{folder}/{name}"], cwd=local.ROOT, env={**os.environ, **environment},
                              capture_output=True, text=True, timeout=PATIENCE + WATCHED_SECONDS)
        ran = re.search(r"^Ran (\d+) tests?", done.stderr, re.M)
        if done.returncode != 0 or not ran:
            failed.append(f"{name}: {done.stderr[-200:]}")
        else:
            passed += int(ran[1])
    return passed, failed


def node(demo: local.Demo, gateway: str, key: str) -> list[dict]:
    """What the SDKs for Node make of the answers from `gateway`."""
    folder = local.TARGET / "node-trust"
    if not (folder / "node_modules").is_dir():
        raise Unable("the SDKs for Node are not installed: tests/setup.sh trust")
    script = folder / "sdks.mjs"
    shutil.copyfile(HERE / "sdks.mjs", script)
    environment = {**os.environ, "WEIR_URL": f"http://{gateway}", "WEIR_KEY": key, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run([program("node"), script], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-400:])
    return json.loads(done.stdout)


@check(
    38,
    "official SDKs",
    how="openai, anthropic and google-genai in Python and Node, streamed and not, with tools, embeddings and errors: through the "
    "gateway and straight to the mock provider",
    demand="the same objects both ways",
    short=False,
)
def sdks(run: Run) -> Outcome:
    tests, failed = suites("sdk", ["test_openai.py", "test_anthropic.py", "test_google_genai.py"])
    with local.Demo() as demo:
        direct, through = node(demo, demo.mock, demo.mock_key), node(demo, demo.gateway, demo.key)
    names = [one["call"] for one in direct]
    differ = [one["call"] for one, other in zip(direct, through) if one != other]
    if names != [one["call"] for one in through] or not names:
        differ.append("another number of calls")
    figure = f"Python: {tests} tests passed, {len(failed)} suites failed; Node: {len(names)} calls, {len(differ)} differ"
    return Outcome(not failed and not differ, figure, note="; ".join([*failed, *differ])[:400])


@check(
    39,
    "TLS",
    how="testssl.sh against a listener with a certificate of an authority that it knows",
    demand="no finding of medium or worse",
    short=False,
)
def tls(run: Run) -> Outcome:
    testssl = program("testssl")
    with tempfile.TemporaryDirectory(prefix="weir-trust-") as folder:
        home = Path(folder)
        authority(home)
        address = f"127.0.0.1:{local.free_port()}"
        listen = [{"address": address, "tls": {"certificate": f"{folder}/server.pem", "private_key": f"{folder}/server.key"}}]
        with local.Demo() as demo:
            # The gateway's own address is among those that it listens on.
            plain = f"127.0.0.1:{local.free_port()}"
            with sides.weir(demo.mock, demo.mock_key, extra={"listen": [{"address": plain}, *listen]}):
                report = home / "findings.json"
                words = [testssl, "--quiet", "--color", "0", "--warnings", "batch", "--ip", "127.0.0.1", "--nodns", "none", "--add-ca",
                         f"{folder}/ca.pem", "--jsonfile", report, f"localhost:{address.rsplit(':', 1)[1]}"]
                subprocess.run(words, capture_output=True, timeout=900)
        findings = json.loads(report.read_text())
    bad = [finding for finding in findings if finding["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
    # What a certificate of an hour lacks is no matter of the gateway's.
    ours = [finding for finding in bad if not finding["id"].startswith(("cert_", "DNS_CAA", "OCSP", "HSTS", "security_headers"))]
    known = sum(finding["severity"] in ("OK", "INFO", "LOW") for finding in findings)
    said = "; ".join(f"{one['id']}: {one['finding']}" for one in (ours or bad))[:300]
    if [one["id"] for one in ours] == ["cipher_order"]:
        said += (". Every cipher that is offered is an AEAD with forward secrecy, so that the client's order is as good as any; "
                 "rustls follows it, and Pingora gives no way to say otherwise")
    return Outcome(not ours and known > 50, f"{len(findings)} findings, {len(ours)} of medium or worse", note=said)


def authority(home: Path):
    """An authority, and a certificate of its for this machine."""
    openssl = program("openssl")
    commands = [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=Trust",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
    ]
    for command in commands:
        subprocess.run([openssl, *command.split()], cwd=home, check=True, capture_output=True)
    (home / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    sign = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 30 -extfile names"
    subprocess.run([openssl, *sign.split()], cwd=home, check=True, capture_output=True)


@check(
    40,
    "metrics, licences, advisories",
    how="promtool on the metrics of a gateway that has served and refused, and on the rules and their tests; five minutes of all sorts of "
    "traffic under Debian's Prometheus with these rules, then every query of the dashboard; cargo-deny on licences, bans and sources. Advisories need "
    "a database that is not to be had here; pages (axe) come with the pages",
    demand="0 errors",
    short=False,
)
def checkers(run: Run) -> Outcome:
    tests, failed = suites("tools", ["test_promtool.py", "test_prometheus.py"], WEIR_PROMETHEUS_SECONDS=str(WATCHED_SECONDS))
    # The crates of other platforms have licences too; a build here has not fetched them.
    subprocess.run([program("cargo"), "fetch", "--locked"], cwd=local.ROOT, capture_output=True, timeout=PATIENCE)
    deny = subprocess.run([program("cargo"), "deny", "--offline", "check", "licenses", "bans", "sources"], cwd=local.ROOT,
                          env={**os.environ, "PATH": f"{local.TOOLS}/bin:{os.environ['PATH']}"}, capture_output=True, text=True, timeout=PATIENCE)
    lacking = "no such command" in deny.stderr
    if deny.returncode != 0:
        failed.append("cargo-deny is not installed: tests/setup.sh deny" if lacking else deny.stderr[-300:])
    errors = len(re.findall(r"^error", deny.stderr, re.M))
    return Outcome(not failed, f"promtool and Prometheus: {tests} tests passed; cargo-deny: {errors} errors", note="; ".join(failed)[:400])
