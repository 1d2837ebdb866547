"""Tests of the pure parts: python3 -m unittest benches.growth.tests"""

import importlib.util
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from ..compare.process import Failed
from ..compare.proxies import Setting
from ..compare.rules import MODEL
from ..compare.tests import MACHINE as ANY_MACHINE
from . import __main__ as command
from . import axes, figures, gateway, measure, plot, report
from .gateway import Serves, Shape


def axis(name: str) -> axes.Axis:
    return next(one for one in axes.AXES if one.name == name)


def result(round_number: int, name: str, size: int, cpu_us: float = 20.0, **more: object) -> dict:
    load = {
        "requests": 1000,
        "events": 1000,
        "reads": 800,
        "seconds": 2.0,
        "busy": 0.5,
        "cpu_ns": int(cpu_us * 1000 * 1000),
        "errors": {"status": 0, "closed": 0},
        "pss_kib": {"7": 40 * 1024},
        "event_delay_us": {"p99": 300},
        **more.pop("load", {}),
    }
    about = {"round": round_number, "axis": name, "size": size, "ready_seconds": 0.05, "start_pss_kib": 10 * 1024}
    threads = {"weir": 900, "weir-fold": 60, "weir-sync": 20, "sled-io-0": 10, "log flusher": 10}
    started = {"weir": 5_000_000, "weir-fold": 2_000_000, "sled-io-0": 1_000_000}
    return {**about, "threads_ns": threads, "warmed_up_threads_ns": started, "load": load, **more}


def configured(shape: Shape, keys: int = 3) -> dict:
    weir = gateway.GrownWeir(Path("weir"), shape)
    return weir.configuration(Setting(Path("folder"), 1, [f"key {n}" for n in range(keys)], [0]), 2)


class Gateways(unittest.TestCase):
    def test_only_the_last_channel_serves_the_model_if_each_has_its_own(self):
        made = configured(Shape(channels=3, serves=Serves.OWN))
        served = [(channel["name"], channel["models"]) for channel in made["channels"]]
        self.assertEqual(served, [("channel-0", ["model-0"]), ("channel-1", ["model-1"]), ("channel-2", [MODEL])])
        self.assertTrue(all("channels" not in key for key in made["keys"]))

    def test_every_channel_serves_the_model_and_a_key_may_use_one(self):
        made = configured(Shape(channels=2, serves=Serves.BY_KEY))
        self.assertEqual([channel["models"] for channel in made["channels"]], [[MODEL], [MODEL]])
        self.assertEqual([key["channels"] for key in made["keys"]], [["channel-0"], ["channel-1"], ["channel-0"]])

    def test_channels_lead_to_the_mock_with_the_upstream_key(self):
        [first, second] = configured(Shape(channels=2))["channels"]
        self.assertEqual(first["base_url"], "http://127.0.0.1:1")
        self.assertEqual({**second, "name": first["name"], "priority": 0}, first)

    def test_threads_are_configured(self):
        self.assertEqual(configured(Shape(threads=4))["server"], {"threads": 4})

    def test_requests_are_expected_where_the_configuration_leads_them(self):
        self.assertEqual(Shape(keys=2).expected_use("key"), {"key-0", "key-1"})
        used = {serves: Shape(channels=3, serves=serves).expected_use("channel") for serves in Serves}
        self.assertEqual(used[Serves.OWN], {"channel-2"})
        self.assertEqual(used[Serves.SAME], {"channel-0"})
        self.assertEqual(used[Serves.BY_KEY], {"channel-0", "channel-1", "channel-2"})
        fewer_keys = Shape(keys=2, channels=3, serves=Serves.BY_KEY)
        self.assertEqual(fewer_keys.expected_use("channel"), {"channel-0", "channel-1"})

    def test_what_is_used_wrongly_or_not_at_all_is_astray(self):
        shape = Shape(keys=3)
        for used, astray in [([0, 1, 2], 0), ([0, 2], 1), ([0, 1, 2, 3], 1), ([3], 4)]:
            self.assertEqual(measure.astray(shape, "key", {f"key-{n}": 5 for n in used}), astray, used)


class Axes(unittest.TestCase):
    def test_sizes_are_those_that_the_page_promises(self):
        self.assertEqual(
            {one.name: one.sizes for one in axes.AXES},
            {
                "keys": (1, 100, 10_000, 100_000),
                "channels-own": (1, 10, 1000),
                "channels-same": (1, 10, 1000),
                "channels-by-key": (1, 10, 1000),
                "streams": (10, 100, 1000, 10_000),
                "threads": (1, 2, 4),
            },
        )

    def test_streams_have_the_same_events_a_second_however_many_they_are(self):
        for count in [*axis("streams").sizes, 9900]:
            work = axes.streams(count)
            self.assertEqual(work.connections * 1_000_000 / work.every, 20_000, count)

    def test_a_size_changes_nothing_but_itself(self):
        self.assertEqual(axis("keys").shape(7), Shape(keys=7))
        self.assertEqual(axis("channels-own").shape(7), Shape(channels=7, serves=Serves.OWN))
        self.assertEqual(axis("streams").shape(7), Shape())
        self.assertEqual(axis("threads").shape(4), Shape(threads=4))
        self.assertEqual([one.name for one in axes.AXES if one.all_cores], ["threads"])

    def test_open_files_bound_the_streams_only(self):
        fitting = axes.within(axes.AXES, 20_000)
        self.assertEqual([one.sizes for one in fitting if one.name == "streams"], [(10, 100, 1000, 9900)])
        others = [one for one in axes.AXES if one.name != "streams"]
        self.assertEqual([one for one in fitting if one.name != "streams"], others)
        self.assertEqual(axes.within(axes.AXES, axes.OPEN_FILES), axes.AXES)

    def test_too_few_open_files_are_refused(self):
        with self.assertRaises(Failed):
            axes.within(axes.AXES, 2200)
        axes.within([axis("keys")], 2200)


class Figures(unittest.TestCase):
    def test_a_size_is_beside_the_smallest_of_its_round(self):
        results = [result(1, "keys", 1, 20), result(2, "keys", 1, 40), result(3, "keys", 1, 40)]
        results += [result(1, "keys", 100, 30), result(2, "keys", 100, 40), result(4, "keys", 100, 40)]
        beside = figures.beside_smallest(results, axis("keys"), 100, figures.cpu_us(axis("keys")))
        self.assertEqual(beside, {1: 1.5, 2: 1.0})

    def test_streams_are_counted_by_event_and_the_others_by_request(self):
        one = {"load": {"requests": 10, "events": 500}}
        self.assertEqual(figures.per_second(axis("streams"))(result(1, "streams", 10, **one)), 250.0)
        self.assertEqual(figures.per_second(axis("threads"))(result(1, "threads", 2, **one)), 5.0)

    def test_the_ledgers_share_is_that_of_its_threads(self):
        self.assertEqual(figures.ledger_us(result(1, "keys", 1, 20.0)), 2.0)
        self.assertEqual(figures.first_store_ms(result(1, "keys", 1)), 3.0)

    def test_memory_per_stream_is_what_more_of_them_add(self):
        results = [result(1, "streams", 10), result(1, "streams", 110, load={"pss_kib": {"7": 42 * 1024, "8": 512}})]
        self.assertEqual(figures.kib_per_stream(results, axis("streams"), 110), {1: 25.6})
        self.assertEqual(figures.kib_per_stream(results, axis("streams"), 10), {})

    def test_requests_that_went_astray_are_errors(self):
        self.assertEqual(figures.errors(result(1, "keys", 1, astray={"key": 0, "channel": 0})), {})
        found = figures.errors(result(1, "keys", 1, astray={"key": 2, "channel": 1}, load={"errors": {"status": 4}}))
        self.assertEqual(found, {"status": 4, "astray": 3})


def whole(rounds: int) -> list[dict]:
    return [result(n, one.name, size) for n in range(1, rounds + 1) for one in axes.AXES for size in one.sizes]


MACHINE = {**ANY_MACHINE, "versions": {"weir": "0.1.0", "python": "3.11.7"}, "open_files": 20_000}


class Publishing(unittest.TestCase):
    def test_only_a_whole_run_without_errors_may_stand_on_the_page(self):
        self.assertTrue(figures.complete(whole(3), 3))
        self.assertFalse(figures.complete(whole(2), 3))
        self.assertFalse(figures.complete(whole(3)[:-1], 3))
        self.assertFalse(figures.complete([one for one in whole(3) if one["size"] != 100_000], 3))
        self.assertFalse(figures.complete([*whole(3)[:-1], {**whole(3)[-1], "astray": {"key": 1}}], 3))

    def test_a_row_has_the_cost_and_its_ratio_to_the_first_row(self):
        results = [result(n, "threads", size, cpu) for n in [1, 2] for size, cpu in [(1, 20), (2, 20 + 2 * n)]]
        self.assertEqual(
            report.table(results, axis("threads")).splitlines(),
            [
                "| threads | CPU per request | beside | range | requests/s | load busy | errors |",
                "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
                "| 1 | 20.0 µs | 1.00× | 1.00–1.00 | 500 | 50% | 0 |",
                "| 2 | 23.0 µs | 1.15× | 1.10–1.20 | 500 | 50% | 0 |",
            ],
        )

    def test_a_table_is_made_for_each_axis_that_was_measured(self):
        page = report.table_page([result(1, "threads", 1), result(1, "channels-same", 1)], MACHINE)
        headings = [line.split("**")[1] for line in page.splitlines() if line.startswith("**")]
        self.assertEqual(headings, ["Channels, all with the same model", "Threads"])

    def test_fewer_streams_than_were_wanted_are_told(self):
        told = " 9,900 are what 20,000 open files allow."
        for size, expected in [(9900, True), (10_000, False)]:
            results = [result(1, "streams", 10), result(1, "streams", size)]
            self.assertEqual(told in report.remark(results, axis("streams"), MACHINE), expected)

    def test_the_command_that_is_kept_has_no_path(self):
        options = command.arguments(["--seconds", "1.5", "--weir", "/some/where", "--scratch", "/else/where"])
        kept = ["python3", "-m", "benches.growth", "--rounds", "3", "--seconds", "1.5"]
        self.assertEqual(command.command(options), kept)
        options.only = ["keys", "threads"]
        self.assertEqual(command.command(options), [*kept, "--only", "keys,threads"])

    def test_the_page_is_written_for_a_whole_run_below_its_folder_only(self):
        with tempfile.TemporaryDirectory() as name:
            benches = Path(name) / "benches"
            page = benches / "README.md"
            whole_run, elsewhere, too_short = (3, "benches/runs/a", True), (3, "b", False), (2, "benches/runs/c", False)
            for rounds, place, written in [whole_run, elsewhere, too_short]:
                folder = Path(name) / place
                folder.mkdir(parents=True)
                (folder / "machine.json").write_text(json.dumps(MACHINE))
                (folder / "raw.jsonl").write_text("".join(json.dumps(one) + "\n" for one in whole(rounds)))
                page.write_text(f"before\n{report.FIRST}\nold\n{report.LAST}\nafter\n")
                with mock.patch.multiple(command, PAGE=page, say=mock.DEFAULT), mock.patch.object(plot, "draw"):
                    self.assertEqual(command.publish(folder), 0)
                text = page.read_text()
                self.assertEqual(("\nold\n" in text, "(runs/a/plot.png)" in text), (not written, written))
                self.assertEqual((text[:7], text[-6:]), ("before\n", "after\n"))

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "matplotlib is not installed")
    def test_a_whole_run_and_a_part_are_drawn(self):
        for results in [whole(2), [result(1, "threads", 1)]]:
            with tempfile.TemporaryDirectory() as folder:
                plot.draw(results, MACHINE, Path(folder) / "plot.png")
                self.assertEqual((Path(folder) / "plot.png").read_bytes()[:4], b"\x89PNG")


if __name__ == "__main__":
    unittest.main()
