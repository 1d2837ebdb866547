"""Prometheus's own checker finds nothing to say about Weir's metrics, and they agree with the ledger."""

import re
import subprocess
import unittest

import local

PROMTOOL = local.tool("promtool", "prometheus/usr/bin/promtool")


def check(metrics):
    """What `promtool check metrics` says, and its exit code."""
    run = subprocess.run([PROMTOOL, "check", "metrics"], input=metrics, capture_output=True, timeout=30)
    return run.returncode, (run.stdout + run.stderr).decode()


def total(metrics, name, **labels):
    """The sum of a family's samples that have these labels."""
    found = 0
    for line in metrics.decode().splitlines():
        sample = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if sample and all(f'{label}="{value}"' in sample[1].split(",") for label, value in labels.items()):
            found += float(sample[2])
    return found


class Metrics(unittest.TestCase):
    def scrape(self, demo):
        status, headers, body = local.request(demo.admin, "GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("text/plain; version=0.0.4"), headers)
        return body

    def test_the_checker_does_find_mistakes(self):
        code, said = check(b"# TYPE weir_things counter\nweir_things 1\n")
        self.assertNotEqual(code, 0)
        self.assertIn("_total", said)

    def test_nothing_is_wrong_with_the_metrics_of_a_gateway_that_has_served(self):
        with local.Demo() as demo:
            self.assertEqual(check(self.scrape(demo)), (0, ""), "before any traffic")
            for _, line in demo.curl_lines:
                subprocess.run(["sh", "-c", line], check=True, capture_output=True, timeout=30)
            refused = {"authorization": "Bearer sk-weir-nobody"}
            self.assertEqual(local.request(demo.gateway, "POST", "/v1/chat/completions", refused, b"{}")[0], 401)
            self.assertEqual(local.request(demo.gateway, "GET", "/nowhere")[0], 404)
            settled = lambda: sum(row["requests"] for row in demo.usage("channel")) == len(demo.curl_lines)
            local.wait_for("a settlement of each", settled, local.SETTLE_SECONDS)
            metrics = self.scrape(demo)
            self.assertEqual(check(metrics), (0, ""))

            rows = demo.usage("channel")
            for kind, figure in [("input", "input_tokens"), ("output", "output_tokens")]:
                self.assertEqual(total(metrics, "weir_tokens_total", type=kind),
                                 sum(row[figure] for row in rows), kind)
            self.assertGreater(sum(row["output_tokens"] for row in rows), 0)
            for secret in (demo.key, demo.token, demo.mock_key):
                self.assertNotIn(secret.encode(), metrics)


if __name__ == "__main__":
    unittest.main()
