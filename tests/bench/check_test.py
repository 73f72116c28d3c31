#!/usr/bin/env python3
"""bench/check tells a drop from noise, and what costs a step from what cost it when it was recorded.

The second half runs count_bench (RECAST_COUNT_BENCH): counts are exact, so a step that issues a quarter more products,
operators or allocations than recorded fails here, however busy the machine.
"""

import os
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import check

XEON = {"cpu": "Intel(R) Xeon(R) Processor @ 2.10GHz", "cores": 2, "isa": "AVX512",
        "flags": ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"]}


def ratio(bench, what, value):
    return {"bench": bench, "what": what, "dtype": "fp32", "rival": "torch", "unit": "images/s", "ratio": value}


class Kinds(unittest.TestCase):
    def test_have_a_name_of_processor_widest_products_and_cores(self):
        self.assertEqual(check.kind_of(XEON), "intel-xeon-processor.amx.2-cores")

    def test_differ_in_the_widest_matrix_instructions(self):
        flags = XEON["flags"]
        kinds = [check.kind_of(XEON | {"flags": flags[:count]}) for count in (0, 2, 3, 4, 6)]
        self.assertEqual([kind.split(".")[1] for kind in kinds], ["plain", "avx2", "avx512", "avx512_bf16", "amx"])

    def test_of_a_processor_without_a_name_are_known_by_the_rest(self):
        self.assertEqual(check.kind_of({"cpu": "", "cores": 4, "flags": []}), "unknown.plain.4-cores")


class Comparison(unittest.TestCase):
    def compare(self, recorded, now, **more):
        known = {"learn": {"rows": recorded}}
        return check.compare(known, {"learn": now}, **more)

    def test_fails_a_ratio_that_dropped_by_more_than_a_fifth(self):
        rows = self.compare({"a": 2.0, "b": 2.0, "c": 2.0}, {"a": 1.59, "b": 1.61, "c": 3.0})
        self.assertEqual([row.name for row in check.failed(rows)], ["a"])

    def test_fails_a_count_that_rose_by_more_than_a_quarter(self):
        rows = self.compare({"a": 100, "b": 100, "c": 100}, {"a": 126, "b": 125, "c": 10}, less_is_better=True)
        self.assertEqual([row.name for row in check.failed(rows)], ["a"])

    def test_fails_a_count_that_was_none(self):
        rows = self.compare({"a": 0, "b": 0}, {"a": 1, "b": 0}, less_is_better=True)
        self.assertEqual([row.name for row in check.failed(rows)], ["a"])

    def test_fails_a_row_that_is_gone_and_lets_a_new_one_be(self):
        rows = self.compare({"a": 1.0}, {"b": 1.0})
        self.assertEqual([(row.name, row.verdict) for row in rows], [("a", "GONE"), ("b", "new")])

    def test_leaves_parts_alone_that_were_not_run(self):
        self.assertEqual(check.compare({"infer": {"rows": {"a": 1.0}}}, {"learn": {"a": 1.0}})[0].part, "learn")

    def test_says_how_much_each_row_changed_in_columns(self):
        lines = check.table(self.compare({"speed": 2.0, "gone": 1.0}, {"speed": 1.0, "other": 12345})).splitlines()
        self.assertEqual(lines[0].split(), ["part", "row", "recorded", "now", "change"])
        self.assertEqual(lines[1].split(), ["learn", "speed", "2.000", "1.000", "-50.0", "%", "DROPPED"])
        self.assertEqual(lines[3].split(), ["learn", "other", "-", "12,345", "-", "new"])
        self.assertEqual(len({line.index(word) for line, word in zip(lines[1:], ("2.000", "1.000", "-"))}), 1)


class Records(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "recorded"
        self.path = self.folder / f"{check.kind_of(XEON)}.json"

    def verdict(self, now, strict=False):
        return check.verdict(check.full(now, XEON, self.folder), strict)

    def test_of_results_compare_with_themselves(self):
        now = check.rows_of({"rows": [ratio("learn", "speed", 1.5), ratio("infer", "speed", 1.1)]})
        self.assertEqual(now, {"learn": {"speed, fp32, torch, images/s": 1.5},
                               "infer": {"speed, fp32, torch, images/s": 1.1}})
        check.write_record(self.path, now, XEON)
        last, status = self.verdict(now)
        self.assertEqual((last[:10], status), ("ok, 2 rows", 0))
        last, status = self.verdict({"learn": {"speed, fp32, torch, images/s": 1.1}})
        self.assertEqual((last[:14], status), ("FAILED, 1 of 1", 1))

    def test_that_are_missing_are_said_and_fail_when_strict(self):
        for strict, wanted in ((False, 0), (True, 1)):
            last, status = self.verdict({"learn": {"a": 1.0}}, strict)
            self.assertEqual((last[:13], status), ("no record for", wanted))

    def test_of_another_part_stay_when_one_is_recorded_again(self):
        check.write_record(self.path, {"learn": {"a": 1.0, "b": 1.0}, "infer": {"c": 1.0}}, XEON)
        check.write_record(self.path, {"learn": {"a": 2.0}}, XEON)
        rows = {part: known["rows"] for part, known in check.read_record(self.path).items()}
        self.assertEqual(rows, {"infer": {"c": 1.0}, "learn": {"a": 2.0}})


def document(share, operators=100):
    counts = dict.fromkeys(check.COUNTS, 1000) | {"operators": operators, "products_of_a_step": share}
    return {"cases": {"learn fp32": counts}, "machine": XEON}


class ShortForm(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.measured = Path(folder.name), []
        self.addCleanup(setattr, check, "count", check.count)
        check.count = lambda program, steps: self.measured.pop(0)
        check.write_record(self.folder / "counts.json", check.counts_of(document(1)), XEON)
        check.write_record(self.folder / f"{check.kind_of(XEON)}.json", check.shares_of(document(0.8)), XEON)

    def verdict(self, *documents):
        self.measured = list(documents)
        return check.verdict(check.short("count_bench", 20, self.folder), False)[1]

    def test_measures_a_share_again_that_seems_to_have_dropped(self):
        self.assertEqual(self.verdict(document(0.5), document(0.75)), 0)
        self.assertEqual(self.measured, [])

    def test_fails_where_the_share_is_low_each_time(self):
        self.assertEqual(self.verdict(document(0.5), document(0.6), document(0.4)), 1)

    def test_fails_on_counts_at_once(self):
        self.assertEqual(self.verdict(document(0.8, operators=130)), 1)


@unittest.skipUnless("RECAST_COUNT_BENCH" in os.environ, "RECAST_COUNT_BENCH names no program")
class StepsOfASmallNetwork(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.document = check.count(os.environ["RECAST_COUNT_BENCH"], 0)

    def needed(self, case):
        """Multiply-adds of the network written down plainly, each token through each product; twice where it learns."""
        net, T = self.document["network"], self.document["network"]["tokens"]
        D = net["width"]
        block = T * (4 * D * D + 2 * D * net["mlp_width"]) + 2 * T * T * D
        image = net["depth"] * block + (T - 1) * D * 3 * net["patch_px"] ** 2 + D * net["classes"]
        return self.document["images"] * image * (2 if case.startswith("learn") else 1)

    def test_issue_the_products_that_the_network_has(self):
        for case, counts in self.document["cases"].items():
            with self.subTest(case):
                share = counts["multiply_adds"] / self.needed(case)
                self.assertGreater(share, 0.6, "products are not counted")
                self.assertLess(share, 1.2)

    def test_cost_what_was_recorded(self):
        rows = check.compare(check.read_record(check.RECORDED / "counts.json"), check.counts_of(self.document),
                             less_is_better=True)
        self.assertEqual([row for row in rows if row.recorded is None], [], "bench/check --short --record")
        self.assertEqual(check.failed(rows), [], "\n" + check.table(rows))


if __name__ == "__main__":
    unittest.main()
