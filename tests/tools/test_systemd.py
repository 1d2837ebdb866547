"""The unit for systemd: what it allows is enough for all that a gateway does, and little more.

systemd itself cannot run here, so its restrictions are held against what the gateway was seen to do: every system call
of a life with requests, a reload, an upgrade and a stop.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import local

UNIT = local.ROOT / "systemd/weir.service"
# What the scorecard asks for.
EXPOSURE = 1.3


def settings(name):
    """All values of a setting, in order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


def system_calls(names):
    """What a filter stands for. `names` are calls and groups of them."""
    calls = set()
    for name in names:
        if name.startswith("@"):
            lines = run(["systemd-analyze", "--no-pager", "syscall-filter", name]).splitlines()[1:]
            members = {line.strip() for line in lines if line.strip() and not line.strip().startswith("#")}
            calls |= system_calls(members)
        else:
            calls.add(name)
    return calls


def allowed_calls():
    allowed = set()
    for line in settings("SystemCallFilter"):
        if line.startswith("~"):
            allowed -= system_calls(line[1:].split())
        else:
            allowed |= system_calls(line.split())
    return allowed


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Confined(local.Gateway):
    """A gateway without any capability, whose system calls are written down."""

    def __init__(self, configuration):
        super().__init__(configuration)
        os.chmod(self.folder.name, 0o777)
        self.trace = Path(self.folder.name) / "trace"
        confine = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        if os.geteuid() == 0:
            confine += ["--reuid=65534", "--regid=65534", "--clear-groups"]
        self.command = ["strace", "-f", "-qq", "-o", str(self.trace), *confine, *self.command]


class Unit(unittest.TestCase):
    def test_it_exposes_little(self):
        text = run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)])
        level = float(re.search(r"Overall exposure level for weir.service: ([0-9.]+)", text)[1])
        print(f"exposure {level}", file=sys.stderr)
        self.assertLessEqual(level, EXPOSURE)

    def test_systemd_understands_both_units(self):
        with tempfile.TemporaryDirectory() as folder:
            for unit in ["weir.service", "weir.socket"]:
                text = (UNIT.parent / unit).read_text().replace("/usr/local/bin/weir", str(local.WEIR))
                (Path(folder) / unit).write_text(text)
            done = subprocess.run(["systemd-analyze", "--man=no", "verify", *map(str, Path(folder).iterdir())],
                                  capture_output=True, text=True, timeout=60)
            said = [line for line in (done.stdout + done.stderr).splitlines() if "weir" in line]
            self.assertEqual(said, [])

    def test_the_stop_is_given_more_time_than_the_streams(self):
        grace = re.search(r"grace_period: (\d+)s", (local.ROOT / "conf/weir.yaml").read_text())[1]
        self.assertGreater(int(settings("TimeoutStopSec")[0]), int(grace))

    def test_nothing_that_a_gateway_does_is_forbidden(self):
        with local.Demo() as demo:
            text = local.configuration({"openai": ["gpt-*"]}, demo.mock.replace("127.0.0.1", "localhost"), demo.mock_key)
            with Confined(text) as gateway:
                self.live(gateway)
                gateway.child.wait(30)
                # What comes before is what confines it.
                trace = gateway.trace.read_text().split(f'execve("{local.WEIR}", ', 1)[1]
        used = set(re.findall(r"^\d+ +(?:<\.\.\. )?([a-z0-9_]+)(?:\(| resumed)", trace, re.M))
        self.assertIn("sendmsg", used, "sockets were handed over")
        self.assertEqual(sorted(used - allowed_calls() - {"exit_group", "execve"}), [])
        families = set(re.findall(r"socket\((AF_\w+),", trace))
        # glibc asks for the machine's addresses when it looks up a name, and does without them if it may not.
        self.assertEqual(sorted(families - set(settings("RestrictAddressFamilies")[0].split()) - {"AF_NETLINK"}), [])
        self.assertNotIn("PROT_WRITE|PROT_EXEC", trace)
        written = re.findall(r'openat\(AT_FDCWD, "([^"]+)", [^)]*(?:O_WRONLY|O_RDWR|O_CREAT)', trace)
        outside = [path for path in written
                   if not path.startswith((gateway.folder.name, "/dev/", "/proc/self/", "/proc/thread-self/"))]
        self.assertEqual(outside, [])

    def live(self, gateway):
        headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}

        def ask(**fields):
            body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], **fields})
            return local.request(gateway.gateway, "POST", "/v1/chat/completions", headers, body)[0]

        self.assertEqual((ask(), ask(stream=True)), (200, 200))
        command = [str(local.WEIR), "reload", "--data-dir", f"{gateway.folder.name}/data"]
        self.assertIn("in force", run(command))
        told = run([str(local.WEIR), "upgrade", "--within", "60s", "--data-dir", f"{gateway.folder.name}/data"])
        pid = int(re.search(r"process (\d+) serves now", told)[1])
        self.assertEqual(ask(), 200)
        self.assertEqual(len(gateway.usage("key")), 1)
        os.kill(pid, signal.SIGTERM)


class Install(unittest.TestCase):
    def test_what_is_configured_stays_when_it_is_installed_again(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "target/release/weir")
            program.parent.mkdir(parents=True)
            shutil.copy("/bin/true", program)
            make = ["make", "--no-print-directory", "install", f"DESTDIR={folder}/root", "PREFIX=/usr"]
            environment = {**os.environ, "CARGO_TARGET_DIR": f"{folder}/target"}
            run(make, cwd=local.ROOT, env=environment)
            root = Path(folder, "root")
            found = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
            self.assertEqual(found, [
                "etc/systemd/system/weir.service", "etc/systemd/system/weir.socket", "etc/weir/prices.yaml",
                "etc/weir/weir.yaml", "usr/bin/weir", "usr/share/doc/weir/README.md",
                "usr/share/doc/weir/grafana-dashboard.json", "usr/share/doc/weir/prometheus-rules.yml",
                "usr/share/doc/weir/record.schema.json"])
            unit = (root / "etc/systemd/system/weir.service").read_text()
            self.assertIn("ExecStart=/usr/bin/weir run", unit)
            self.assertNotIn("/usr/local", unit)
            (root / "etc/weir/weir.yaml").write_text("# mine\n")
            run(make, cwd=local.ROOT, env=environment)
            self.assertEqual((root / "etc/weir/weir.yaml").read_text(), "# mine\n")


if __name__ == "__main__":
    unittest.main()
