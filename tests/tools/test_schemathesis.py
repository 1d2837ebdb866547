"""schemathesis asks the admin API whatever its document allows, and much that it does not: nothing breaks, and nothing is
answered that the document does not list.

It does not ask for the stream of events, which has no end. That a scalar is taken in another spelling, as YAML's are, is
meant: a name may be written as a number.
"""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import local

ST = local.TARGET / "venv-schemathesis/bin/st"
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
ENDLESS = "/admin/api/events"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
]
# Of which most is for sequences of requests that lead to each other.
BUDGET_SECONDS = 70
CASES_EACH = 12


def configuration():
    """A key, a user and a channel of the file, beside what is made."""
    written = json.loads(local.configuration({"openai": ["gpt-*"]}, "127.0.0.1:9", "sk-upstream-of-tests"))
    written["users"] = [{"name": "declared"}]
    return json.dumps(written)


def run(gateway, document, *options):
    """The exit code, and what was printed."""
    command = [ST, "run", "document.json", "--url", f"http://{gateway.admin}", "--header",
               f"Authorization: Bearer {gateway.token}", "--checks", ",".join(CHECKS), "--continue-on-failure",
               "--request-timeout", "20", *options]
    with tempfile.TemporaryDirectory(prefix="weir-test-") as folder:
        (Path(folder) / "document.json").write_text(json.dumps(document))
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "NO_COLOR": "1"}
        done = subprocess.run([str(word) for word in command], cwd=folder, env=environment, capture_output=True,
                              text=True, timeout=160)
    return done.returncode, done.stdout + done.stderr


class AdminApi(unittest.TestCase):
    def document(self, gateway):
        headers = {"authorization": f"Bearer {gateway.token}"}
        status, _, body = local.request(gateway.admin, "GET", "/admin/api/openapi.json", headers)
        self.assertEqual(status, 200)
        return json.loads(body)

    def test_a_status_that_is_not_listed_is_found(self):
        with local.Gateway(configuration()) as gateway:
            document = self.document(gateway)
            del document["paths"]["/admin/api/usage"]["get"]["responses"]["400"]
            code, said = run(gateway, document, "--include-path", "/admin/api/usage", "--phases", "coverage")
            self.assertEqual(code, 1, said)
            self.assertIn("Undocumented status code", said)

    def test_nothing_breaks_and_nothing_undocumented_is_answered(self):
        with local.Gateway(configuration()) as gateway:
            document = self.document(gateway)
            operations = sum(len(methods) for methods in document["paths"].values())
            code, said = run(gateway, document, "--exclude-path", ENDLESS, "--max-examples", str(CASES_EACH),
                             "--max-time", str(BUDGET_SECONDS))
            self.assertEqual(code, 0, said)
            tested = re.search(r"Tested: (\d+)", said)
            self.assertEqual(tested and int(tested[1]), operations - 1, said)
            cases = re.search(r"(\d+) generated", said)
            self.assertGreater(int(cases[1]), 500, said)
            print(f"{cases[1]} requests to {tested[1]} operations")
            # It lives, and the changes that were made are recorded.
            headers = {"authorization": f"Bearer {gateway.token}"}
            status, _, body = local.request(gateway.admin, "GET", "/admin/api/changes?limit=1", headers)
            self.assertEqual((status, len(json.loads(body)["rows"])), (200, 1))
            self.assertNotIn("panicked", gateway.output())


if __name__ == "__main__":
    unittest.main()
