"""What is shipped for Prometheus and Grafana fits what a gateway exports: rules, their tests, and every panel.

`WEIR_PROMETHEUS_SECONDS` says for how long a gateway with all sorts of traffic is watched by Debian's Prometheus.
"""

import json
import math
import os
import re
import subprocess
import time
import unittest

import local
import watched

SECONDS = int(os.environ.get("WEIR_PROMETHEUS_SECONDS", "45"))
PROMTOOL = local.tool("promtool", "prometheus/usr/bin/promtool")
FOLDER = local.ROOT / "conf/prometheus"
DASHBOARD = json.loads((local.ROOT / "conf/grafana/weir.json").read_text())

# Panels that show something only when something is wrong: nothing, or zero. Every other one has to show more.
QUIET = {
    "Series that found no room": "no family has two thousand series here",
    "Addresses refused": "no host leads anywhere that it may not",
    "Disk's refusals": "the disk takes all",
    "Damage": "the ledger is whole",
    **({"Alerts that fire": "each waits for a minute at least"} if SECONDS <= 60 else {}),
    "Budgets that are tight": "one is too small from the start, and none is used up",
    "Reloads and restarts": "there are none",
    "Records lost": "no queue is full",
}

# These may be zero and need not be.
EITHER = {"CPU": "it is counted in whole seconds, of which a fast machine takes few"}

# What the traffic calls for, and nothing else does.
ALERTS = {
    "WeirErrorBudgetBurnsFast", "WeirErrorBudgetBurnsSlowly", "WeirChannelDown", "WeirChannelKeysCool", "WeirBudgetSpent",
    "WeirUnpriced",
}

# So long a look is repeated: a machine that stood still has no samples of the last seconds.
PATIENCE = 60

# What Prometheus puts on every series of a target.
OF_THE_TARGET = {"job", "instance"}


def expressions():
    """Every query of the dashboard, with the title of what shows it."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], {}


def filled(expression):
    """What Grafana makes of it when all is chosen."""
    values = {"$__rate_interval": "30s", "$__range": f"{SECONDS}s", "$job": "weir"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$(instance|channel|model)\b", ".*", expression)


def metrics_in(expression):
    """The names of metrics in an expression, each with the labels that are asked for beside it."""
    for name, matchers in re.findall(r"(?<![\w:\"])((?:weir|process)_\w+(?![\w:(]))(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))


def promtool(*arguments):
    run = subprocess.run([PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120)
    return run.returncode, run.stdout + run.stderr


class Files(unittest.TestCase):
    def test_the_rules_are_well_formed_and_do_what_their_tests_say(self):
        self.assertEqual(promtool("check", "rules", "rules.yml")[0], 0, promtool("check", "rules", "rules.yml")[1])
        code, said = promtool("test", "rules", "rules.test.yml")
        self.assertEqual(code, 0, said)

    def test_the_dashboard_can_be_loaded_again_and_again(self):
        self.assertEqual(DASHBOARD["uid"], "weir-gateway")
        self.assertNotIn("id", DASHBOARD)
        kinds = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
        self.assertEqual(kinds, {"datasource": "datasource", **dict.fromkeys(["job", "instance", "channel", "model"], "query")})
        ids = [panel["id"] for panel in DASHBOARD["panels"]]
        self.assertEqual(ids, list(range(1, len(ids) + 1)))
        for panel in DASHBOARD["panels"]:
            for holder in [panel, *panel.get("targets", [])] if panel["type"] != "row" else []:
                self.assertEqual(holder["datasource"], {"type": "prometheus", "uid": "${datasource}"}, panel["title"])
            letters = [target["refId"] for target in panel.get("targets", [])]
            self.assertEqual(letters, sorted(set(letters)), panel["title"])

    def test_no_panel_covers_another_and_none_is_called_as_another(self):
        taken = set()
        for panel in DASHBOARD["panels"]:
            at = panel["gridPos"]
            places = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(places & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            taken |= places
        titles = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] != "row"]
        self.assertEqual(len(titles), len(set(titles)))

    def test_every_metric_in_an_expression_is_found(self):
        mixed = 'sum by (weir) (rate(weir_a_total{code=~"5..",x="weir_b"}[5m])) / weir_c > job:weir_d:rate5m + process_e'
        found = [("weir_a_total", {"code", "x"}), ("weir_c", set()), ("process_e", set())]
        self.assertEqual(list(metrics_in(mixed)), found)


class Watched(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.demo = cls.enterClassContext(local.Demo())
        gateway, keys = watched.gateway(cls.demo)
        cls.gateway = cls.enterClassContext(gateway)
        cls.prometheus = cls.enterClassContext(watched.Prometheus(gateway.admin))
        cls.begun = time.time()
        with watched.Traffic(gateway.gateway, keys) as traffic:
            time.sleep(SECONDS)
            # While there is traffic: a stat shows the last seconds.
            deadline = time.monotonic() + PATIENCE
            cls.seen = cls.look()
            while any(cls.lacks(*one) for one in cls.seen) and time.monotonic() < deadline:
                time.sleep(5)
                cls.seen = cls.look()
        cls.traffic = traffic
        cls.rules = [rule for group in cls.prometheus.ask("rules")["groups"] for rule in group["rules"]]

    @classmethod
    def look(cls):
        """What each query of the dashboard shows: title, query, series or the error."""
        seen = []
        for title, expression, target in expressions():
            since = None if target.get("instant") else cls.begun
            try:
                seen.append((title, expression, target, cls.prometheus.series(filled(expression), since)))
            except RuntimeError as error:
                seen.append((title, expression, target, error))
        return seen

    @staticmethod
    def lacks(title, expression, _, series):
        """Whether it is an error, or nothing where something has to be."""
        if isinstance(series, RuntimeError):
            return True
        has_values = any(math.isfinite(value) for _, values in series for value in values)
        return not has_values and title not in QUIET

    def exported(self):
        """Every name that the gateway exports, and its labels where there is a series."""
        text = local.request(self.gateway.admin, "GET", "/metrics")[2].decode()
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        # A family that has no series yet is known by its counter of those that found no room.
        silent = set(re.findall(r'^weir_metric_series_dropped_total\{family="(\w+)"\}', text, re.M)) - set(kinds)
        names = {name: None for name in silent}
        for name, kind in kinds.items():
            for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
                sample = re.search(rf"^{name}{suffix}(?:\{{(.*)\}})? ", text, re.M)
                names[name + suffix] = set(re.findall(r'(\w+)="', sample[1] or ""))
        return names

    def test_every_metric_that_is_asked_for_is_exported_with_the_labels_that_are_asked_for(self):
        exported = self.exported()
        asked = [expression for _, expression, _ in expressions()]
        asked += [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
        asked += [rule["query"] for rule in self.rules]
        self.assertGreater(len(asked), 100)
        for expression in asked:
            for name, labels in metrics_in(expression):
                with self.subTest(name, expression=expression):
                    self.assertIn(name, set(exported))
                    if exported[name] is not None:
                        self.assertLessEqual(labels, exported[name] | OF_THE_TARGET)

    def test_every_metric_of_weir_is_shown_or_watched(self):
        used = {name for _, expression, _ in expressions() for name, _ in metrics_in(expression)}
        whole = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
        exported = {re.sub(r"_(bucket|sum|count)$", "", name) for name in self.exported() if name.startswith("weir_")}
        self.assertEqual(exported - whole, set())

    def test_what_rules_record_is_recorded_and_what_is_asked_of_it_is_there(self):
        recorded = {rule["name"] for rule in self.rules if rule["type"] == "recording"}
        self.assertEqual(len(recorded), 17)
        for rule in self.rules:
            self.assertLessEqual(set(re.findall(r"\b\w+:\w+:\w+\b", rule["query"])), recorded, rule["name"])
        for name in recorded:
            self.assertTrue(self.prometheus.series(name), name)

    def test_every_rule_is_healthy_and_the_target_was_never_down(self):
        self.assertGreater(len(self.rules), 40)
        for rule in self.rules:
            self.assertEqual((rule["health"], rule.get("lastError")), ("ok", None), rule["name"])
        targets = self.prometheus.ask("targets")["activeTargets"]
        self.assertEqual([(one["labels"]["job"], one["health"], one["lastError"]) for one in targets], [("weir", "up", "")])
        down = [values for _, values in self.prometheus.series("up == 0", self.begun)]
        self.assertEqual(down, [])

    def test_every_alert_says_what_to_do_how_bad_it_is_and_waits_before_it_calls(self):
        alerts = [rule for rule in self.rules if rule["type"] == "alerting"]
        tests = (FOLDER / "rules.test.yml").read_text()
        for alert in alerts:
            with self.subTest(alert["name"]):
                self.assertEqual(set(alert["annotations"]), {"summary", "description"})
                self.assertGreater(len(alert["annotations"]["description"]), 40)
                self.assertIn(alert["labels"]["severity"], ("critical", "warning", "info"))
                self.assertGreaterEqual(alert["duration"], 60)
                self.assertIn(f'alertname="{alert["name"]}"', tests, "no test has it fire")

    def test_the_traffic_was_of_every_kind(self):
        self.assertEqual(self.traffic.failures, [])
        self.assertEqual(set(self.traffic.statuses), {200, 401, 404, 429, 500}, self.traffic.statuses)

    def test_the_alerts_that_the_traffic_calls_for_are_on_their_way_and_no_others(self):
        states = {rule["name"]: rule["state"] for rule in self.rules if rule["type"] == "alerting"}
        self.assertEqual({name for name, state in states.items() if state != "inactive"}, ALERTS)

    def test_every_panel_shows_something_and_its_legend_names_labels_that_there_are(self):
        shown = {}
        for title, expression, target, series in self.seen:
            with self.subTest(title, query=filled(expression)):
                self.assertFalse(self.lacks(title, expression, target, series), series)
                values = [value for _, one in series for value in one if math.isfinite(value)]
                shown[title] = shown.get(title, False) or any(values)
                for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                    self.assertTrue(all(label in labels for labels, _ in series), f"no label {label} in {series[:1]}")
        silent = {title for title, is_shown in shown.items() if not is_shown}
        self.assertEqual(silent - set(EITHER), set(QUIET), "the first show nothing, or something is wrong with the gateway")

    def test_every_variable_of_the_dashboard_has_values(self):
        expected = {
            "job": {"weir"}, "instance": {self.gateway.admin}, "channel": {"openai", "anthropic", "gemini", "dead", "locked"},
            "model": {"gpt-4o-mini", "gpt-5-mini", "claude-sonnet-4-5", "gemini-2.5-flash", "other"},
        }
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] == "query":
                selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()
                series = self.prometheus.ask("series", **{"match[]": filled(selector)})
                self.assertEqual({one[label] for one in series}, expected[variable["name"]], variable["name"])

    def test_tokens_and_cost_in_prometheus_are_those_of_the_ledger(self):
        def agree():
            # What channels are probed with is in the ledger, and no traffic.
            rows = [row for row in self.gateway.usage("key") if row["key"] != "(probe)"]
            [(_, [tokens])] = self.prometheus.series("sum(weir_tokens_total)")
            [(_, [dollars])] = self.prometheus.series("sum(weir_cost_usd_total)")
            counted = sum(row["input_tokens"] + row["output_tokens"] for row in rows)
            cost = sum(row["cost_micro_usd"] for row in rows)
            return counted > 0 and tokens == counted and abs(dollars * 1e6 - cost) <= len(rows)

        local.wait_for("the same figures", agree, local.SETTLE_SECONDS)


if __name__ == "__main__":
    unittest.main()
