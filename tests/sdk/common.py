"""What the tests of all SDKs share: one demo, and the comparison of two ways to its mock.

Knows nothing of any SDK.
"""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import local  # noqa: E402

FIGURES = ["requests", "events", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
           "reasoning_tokens"]
# Headers that are a connection's or Weir's own; credentials, which Weir replaces (`strays` says whether
# one of the client's came through); and the mock's cookie, which reaches no client of Weir's.
NOT_PASSED_ON = {"connection", "transfer-encoding", "x-weir-request-id", "authorization", "x-api-key",
                 "x-goog-api-key", "cookie"}

_demo = None


def start():
    """For `setUpModule`."""
    global _demo
    _demo = local.Demo().__enter__()


def stop():
    """For `tearDownModule`."""
    global _demo
    ended, _demo = _demo, None
    ended.__exit__()


def demo():
    """The demo that is running."""
    return _demo


def models_gateway():
    """A gateway before the same mock whose channels name the models that the mock lists; the demo's
    channels have globs, which list nothing."""
    listed = {
        "openai": ["deepseek-chat", "gpt-4o-mini", "text-embedding-3-small"],
        "anthropic": ["claude-opus-4-1", "claude-sonnet-4-5"],
        "gemini": ["gemini-2.5-flash", "gemini-embedding-001"],
    }
    return local.Gateway(local.configuration(listed, demo().mock, demo().mock_key))


def metered():
    """The sums of what Weir has metered."""
    rows = demo().usage("channel")
    return {figure: sum(row[figure] for row in rows) for figure in FIGURES}


def reported(entries):
    """The same sums, as the mock's ledger has them."""
    sums = dict.fromkeys(FIGURES, 0)
    for entry in entries:
        used = entry["usage"]
        written = used["cache_write_5m"] + used["cache_write_1h"]
        figures = [1, entry["events"], used["input_uncached"] + used["cache_read"] + written, used["output"],
                   used["cache_read"], written, used["reasoning"]]
        for figure, value in zip(FIGURES, figures):
            sums[figure] += value
    return sums


class TwoWays(unittest.TestCase):
    """The same calls through Weir and straight to the mock."""

    maxDiff = None

    def compare(self, ask, clients, injected=False, form=False, silent=False):
        """Asserts that `ask(client)` gives equal objects both ways, that the mock was asked for the
        same, and that Weir metered what the mock reported. `injected`: Weir asks for usage that the
        client did not ask for. `form`: a form's boundary is drawn anew for each request. `silent`: the provider reports no usage, and Weir estimates it."""
        direct_client, through_client = clients
        demo().forget()
        direct = ask(direct_client)
        asked_directly = demo().entries()
        demo().forget()
        before = metered()
        through = ask(through_client)
        asked_through = demo().entries()

        self.assertTrue(direct, "the mock gave nothing to compare")
        self.assertEqual(through, direct)

        compared = ["operation", "method", "path", "model", "stream", "status"]
        if not injected:
            compared += ["response_sha256", "usage"]
        if not injected and not form:
            compared += ["request_sha256"]
        show = lambda entries: [{name: entry[name] for name in compared} for entry in entries]
        self.assertTrue(asked_directly, "the mock was not asked")
        self.assertEqual(show(asked_through), show(asked_directly))
        for one, other in zip(asked_directly, asked_through):
            self.assertEqual(other["strays"], [], "a client's credential reached the mock")
            sent, arrived = (set(entry["header_names"]) - NOT_PASSED_ON for entry in (one, other))
            self.assertEqual(arrived, sent, "headers were lost or added")
        if injected:
            self.assertEqual([entry["usage"]["output"] for entry in asked_directly], [0] * len(asked_directly))
            self.assertTrue(all(entry["usage"]["output"] > 0 for entry in asked_through))

        figures = FIGURES[:2] if silent else FIGURES
        expected = reported(asked_through)
        growth = {}

        def settled():
            now = metered()
            growth.update({figure: now[figure] - before[figure] for figure in FIGURES})
            return growth["requests"] >= expected["requests"]

        local.wait_for("settlement", settled, local.SETTLE_SECONDS)
        self.assertEqual([growth[figure] for figure in figures], [expected[figure] for figure in figures],
                         f"Weir metered something else than the mock reported, of {figures}")
