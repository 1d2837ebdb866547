"""Tests of the pure parts: python3 -m unittest benches.compare.tests"""

import importlib.util
import tempfile
import unittest
from pathlib import Path

from . import figures, measure, plot, process, report, work
from .figures import Spread
from .machine import CoreUse


def result(round_number: int, proxy: str, cpu_us: float = 25.0, work_name: str = "json", **more: object) -> dict:
    load = {
        "requests": 1000,
        "events": 0,
        "reads": 0,
        "seconds": 2.0,
        "busy": 0.5,
        "cpu_ns": int(cpu_us * 1000 * 1000),
        "errors": {"status": 0, "closed": 0},
        "latency_us": {"p50": 100, "p99": 900, "p999": 2000},
        "pss_kib": {"7": 4000, "8": 6000},
        "open_streams": 0,
    }
    load.update(more.pop("load", {}))
    about = {"round": round_number, "work": work_name, "proxy": proxy, "idle_pss_kib": 5000}
    return {**about, "load": load, **more}


def named(name: str) -> work.Work:
    return next(one for one in work.WORKS if one.name == name)


class Figures(unittest.TestCase):
    def test_a_ratio_is_taken_within_its_round(self):
        # The machine was twice as slow in round 2; the ratio of medians would be 60/40.
        results = [result(1, "nginx", 20), result(2, "nginx", 40), result(3, "nginx", 40)]
        results += [result(1, "weir", 30), result(2, "weir", 60), result(3, "weir", 80)]
        cpu = figures.cpu_us(named("json"))
        weir, nginx = (figures.by_round(results, "json", name, cpu) for name in ["weir", "nginx"])
        self.assertEqual(figures.ratios(weir, nginx), {1: 1.5, 2: 1.5, 3: 2.0})
        self.assertEqual(Spread.of(figures.ratios(weir, nginx).values()), Spread(1.5, 1.5, 2.0))

    def test_a_round_that_lacks_the_base_has_no_ratio(self):
        self.assertEqual(figures.ratios({1: 2.0, 2: 3.0}, {1: 4.0}), {1: 0.5})
        self.assertEqual(figures.differences({1: 2.0, 2: 3.0}, {2: 4.0}), {2: -1.0})

    def test_nothing_has_no_median(self):
        self.assertIsNone(Spread.of([]))

    def test_cpu_of_a_stream_is_counted_per_event(self):
        one = result(1, "weir", work_name="paced-20ms", load={"events": 500, "cpu_ns": 1_000_000})
        self.assertEqual(figures.cpu_us(named("paced-20ms"))(one), 2.0)
        self.assertEqual(figures.per_second(named("paced-20ms"))(one), 250.0)

    def test_threads_that_answer_who_looks_are_not_of_what_serves(self):
        threads = {"pingora": 3_000_000, "weir-audit": 1_000_000, "weir-admin": 7_000_000, "weir-admin-work": 5_000_000}
        one = result(1, "console", threads_ns=threads)
        self.assertEqual(figures.served_us(named("json"))(one), 4.0)
        self.assertIsNone(figures.served_us(named("json"))(result(1, "console")))

    def test_a_console_that_is_reloaded_is_compared_with_audit_alone(self):
        results = [result(1, "audit", 20, threads_ns={"a": 2_000_000}), result(1, "console", 30, threads_ns={"a": 2_100_000})]
        row = "| small JSON, saturated | 1.05× (1.05–1.05) | 1.50× (1.50–1.50) | 1.00× (1.00–1.00) | 1.00× (1.00–1.00) |"
        self.assertIn(row, report.console_table(results))

    def test_cpu_of_no_request_is_no_figure(self):
        self.assertIsNone(figures.cpu_us(named("json"))(result(1, "weir", load={"requests": 0})))

    def test_memory_per_stream_leaves_out_what_was_there_before(self):
        self.assertEqual(figures.kib_per_stream(result(1, "weir", load={"open_streams": 100})), 50.0)
        self.assertIsNone(figures.kib_per_stream(result(1, "weir")))

    def test_events_per_read(self):
        self.assertEqual(figures.events_per_read(result(1, "weir", load={"events": 30, "reads": 12})), 2.5)
        self.assertIsNone(figures.events_per_read(result(1, "weir")))

    def test_a_count_that_differs_from_the_load_is_an_error(self):
        for own, errors in [(999, {"count": 1}), (1000, {}), (1064, {}), (1065, {"count": 1})]:
            one = result(1, "weir", counted={"own": own, "least": 1000, "most": 1064})
            self.assertEqual(figures.errors(one), errors, own)

    def test_errors_are_named_by_kind(self):
        one = result(1, "weir", load={"errors": {"status": 3, "closed": 0}, "warmup_errors": 2})
        self.assertEqual(figures.errors(one), {"status": 3, "warmup": 2})


class Works(unittest.TestCase):
    def test_a_paced_stream_outlasts_its_window(self):
        paced = named("paced-50ms")
        arguments = paced.load_arguments(1, None, 6.0, [], False)
        events = int(arguments[arguments.index("--bench") + 1].split("events=")[1].split(";")[0])
        self.assertEqual(events * 0.05, paced.warmup + 6.0 + work.STREAM_MARGIN)

    def test_the_mock_is_asked_itself_without_a_proxy(self):
        direct = named("json").load_arguments(1, None, 6.0, [], False)
        self.assertEqual(("--direct" in direct, "--target" in direct), (True, False))
        through = named("json").load_arguments(1, (2, Path("keys")), 6.0, [7, 8], False)
        pairs = dict(zip(through[::2], through[1::2], strict=True))
        self.assertEqual((pairs["--mock"], pairs["--target"]), ("127.0.0.1:1", "127.0.0.1:2"))
        self.assertEqual((pairs["--keys-file"], pairs["--cpu"]), ("keys", "7,8"))

    def test_only_streams_ask_for_usage_and_only_if_they_are_to(self):
        asking = [one.name for one in work.WORKS if "--include-usage" in one.load_arguments(1, None, 1.0, [], True)]
        self.assertEqual(asking, ["sse-fast", "paced-20ms", "paced-50ms"])
        self.assertNotIn("--include-usage", named("sse-fast").load_arguments(1, None, 1.0, [], False))

    def test_what_is_counted_has_no_warm_up_that_the_load_does_not_count(self):
        self.assertEqual([one.name for one in work.WORKS if one.counted and one.warmup], [])
        self.assertEqual([one.name for one in work.WORKS if one.counted], ["json"])

    def test_names_are_unique_and_keys_are_not_shared(self):
        names = [one.name for one in work.WORKS] + [work.IDLE]
        self.assertEqual(len(set(names)), len(names))
        self.assertEqual(len(set(work.client_keys()) | set(work.unknown_keys())), 2 * work.KEYS)


class Processes(unittest.TestCase):
    def test_a_tree_has_children_of_children_and_no_others(self):
        self.assertEqual(process.tree(10, {10: 1, 12: 10, 11: 10, 13: 12, 14: 9}), [10, 11, 12, 13])

    def test_a_command_is_pinned_to_its_cores(self):
        self.assertEqual(process.on_cores([0, 1], ["weir", "run"]), ["taskset", "-c", "0,1", "weir", "run"])


class Measuring(unittest.TestCase):
    def test_a_core_of_its_own_tells_what_others_took_of_it(self):
        used = {0: CoreUse(0.75, 0.0), 1: CoreUse(1.0, 0.0)}
        self.assertEqual(measure.foreign_share(used, [0], 0.5, 1.0), 0.25)
        self.assertEqual(measure.foreign_share(used, [0], 0.75, 0.5), 0.5)
        self.assertEqual(measure.foreign_share(used, [0], 0.8, 1.1), 0.0)

    def test_of_a_core_that_proxy_and_load_share_only_the_sum_is_known(self):
        used = {0: CoreUse(1.0, 0.0), 1: CoreUse(1.0, 0.0)}
        self.assertEqual(measure.foreign_share(used, [0, 1], 1.25, 0.5), 0.25)

    def test_a_warm_up_that_was_too_short_is_made_long_enough(self):
        self.assertEqual(measure.longer(0.5, 1000, 4000), 3.0)
        self.assertEqual(measure.longer(0.5, 0, 4000), 0.5)
        self.assertEqual(measure.longer(0.5, 1, 100_000), measure.LONGEST_WARM_UP)


class Tables(unittest.TestCase):
    def test_the_readme_is_replaced_between_its_markers_only(self):
        readme = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
        replaced = report.between_markers(readme, "new")
        self.assertEqual(replaced, f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n")
        self.assertEqual(report.between_markers(replaced, "new"), replaced)

    def test_a_readme_without_markers_is_refused(self):
        with self.assertRaises(ValueError):
            report.between_markers("text", "new")

    def test_a_row_has_nginx_in_microseconds_and_the_others_as_ratios(self):
        results = [result(1, "nginx", 20), result(1, "haproxy", 21), result(1, "weir", 15)]
        self.assertEqual(
            report.cpu_table(results).splitlines(),
            [
                "| CPU time per request | nginx | HAProxy | Weir |",
                "| --- | ---: | ---: | ---: |",
                "| small JSON, saturated | 20.0 µs | 1.05× | 0.75× |",
            ],
        )

    def test_what_audit_costs_is_told_beside_the_same_rounds_without_it(self):
        results = [result(n, name, cpu) for n, name, cpu in [(1, "weir", 20), (1, "audit", 21), (2, "weir", 40)]]
        results += [result(2, "audit", 41), result(3, "audit", 99), result(3, "nginx", 10)]
        self.assertEqual(
            report.audit_table(results).splitlines(),
            [
                "| Audit on, beside off | median | range |",
                "| --- | ---: | ---: |",
                "| small JSON, saturated | 1.04× | 1.02–1.05 |",
            ],
        )

    def test_times_are_shown_in_a_unit_that_fits(self):
        self.assertEqual(
            [report.time_text(us) for us in [None, 7.44, 812, -12.3, 12345]],
            ["–", "7.44 µs", "812 µs", "-12.3 µs", "12.3 ms"],
        )


class Publishing(unittest.TestCase):
    def whole(self, rounds: int) -> list[dict]:
        names = ["nginx", "haproxy", "envoy", "weir", "audit"]
        works = [one.name for one in work.WORKS] + [work.IDLE]
        return [result(n, name, work_name=one) for n in range(1, rounds + 1) for one in works for name in names]

    def test_only_a_whole_run_of_enough_rounds_may_stand_in_the_readme(self):
        self.assertTrue(report.complete(self.whole(5), 5))
        self.assertFalse(report.complete(self.whole(4), 5))
        self.assertFalse(report.complete(self.whole(5)[:-1], 5))

    def test_a_page_has_a_section_for_each_work_that_was_measured(self):
        results = [one for one in self.whole(1) if one["work"] in ["json", "connect"]]
        page = report.table_page(results, MACHINE)
        sections = [line for line in page.splitlines() if line.startswith("## ")]
        self.assertEqual(sections, ["## small JSON, saturated (`json`)", "## a connection per request (`connect`)"])

    def test_noise_is_told(self):
        self.assertEqual(report.noise([{"foreign_share": 0.01}, {"foreign_share": 0.02}]), [])
        told = report.noise([{"foreign_share": 0.1}, {"foreign_share": 0.3}, {"foreign_share": 0.2}])
        self.assertIn("20% of a measured core (median; 30% at worst)", told[0])

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "matplotlib is not installed")
    def test_builds_of_weir_beside_each_other_are_drawn(self):
        results = [*self.whole(2), result(1, "weir-a"), result(1, "weir-b")]
        with tempfile.TemporaryDirectory() as folder:
            plot.draw(results, MACHINE, Path(folder) / "plot.png")
            self.assertEqual((Path(folder) / "plot.png").read_bytes()[:4], b"\x89PNG")
        used = plot.colours(figures.proxies(results))
        self.assertEqual(len({used[name] for name in figures.proxies(results)}), 7)


MACHINE = {
    "date": "2026-01-31",
    "cpu": "a processor",
    "cores": 2,
    "memory_mib": 4096,
    "kernel": "6.1",
    "system": "Debian 12",
    "commit": "0123456789ab",
    "versions": {"nginx": "1.22.1", "haproxy": "2.6.12", "envoy": "1.40.0", "weir": "0.1.0"},
}


if __name__ == "__main__":
    unittest.main()
