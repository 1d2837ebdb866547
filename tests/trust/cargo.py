"""Checks that are tests in Rust: they run with `cargo test`, and print their figures as lines `trust: …`."""

import os
import re
import subprocess

import local

from .board import Outcome

# A long version has its own figures for how often; this is for the busiest of machines.
PATIENCE = 3600


def tests(name: str, target: str, environment: dict[str, str] | None = None, release: bool = False) -> Outcome:
    """Runs the tests whose names hold `name`, of `target` (`--test it`, `--lib`, `-p weir-filters`). The figure is what they
    print; without a line of theirs, how many passed."""
    command = ["cargo", "test", "--locked", *(["--release"] if release else []), *target.split(), name, "--", "--nocapture"]
    done = subprocess.run(
        command, cwd=local.ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=PATIENCE
    )
    output = done.stdout + done.stderr
    passed = sum(int(number) for number in re.findall(r"^test result: ok\. (\d+) passed", output, re.M))
    lines = re.findall(r"^(?:test .* \.\.\. )?trust: (.+)$", output, re.M)
    if done.returncode != 0 or passed == 0:
        return Outcome(False, "; ".join(lines) or "failed", note=output[-600:].replace("\n", " "))
    return Outcome(True, "; ".join(lines) or f"{passed} tests passed")
