#!/usr/bin/env python3
"""bench/growth finds the exponent of a curve and the places where it breaks."""

import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import curve
from curve import Curve

SIZES = [1, 2, 4, 8, 16, 32]


def drawn(seconds, ideal=1):
    found = Curve("case", "images", ideal)
    for size, value in zip(SIZES, seconds):
        found.add("learn", size, value, 2**20 * (100 + size))
    return found


class Exponents(unittest.TestCase):
    def test_are_those_of_powers(self):
        for power in (-1, 0, 0.5, 1, 2):
            self.assertAlmostEqual(curve.exponent(SIZES, [3 * size**power for size in SIZES]), power)

    def test_are_of_the_upper_half_alone(self):
        self.assertAlmostEqual(curve.exponent(SIZES, [5, 5, 5, 8**2, 16**2, 32**2]), 2)
        self.assertAlmostEqual(curve.exponent([1, 10, 100], [7, 10, 100]), 1)

    def test_need_two_points(self):
        self.assertIsNone(curve.exponent([4], [1.0]))
        self.assertAlmostEqual(curve.exponent([1, 2], [1.0, 0.5]), -1)


class Breaks(unittest.TestCase):
    def test_are_steps_of_more_than_half_above_the_sizes(self):
        self.assertEqual(curve.breaks(SIZES, [1, 2, 4, 12.1, 24, 48]), [3])
        self.assertEqual(curve.breaks(SIZES, [1, 2, 4, 11.9, 24, 48]), [])

    def test_of_threads_are_places_where_more_do_not_help(self):
        self.assertEqual(curve.breaks([1, 2, 4], [4, 2, 2], ideal=-1), [2])


class Curves(unittest.TestCase):
    def test_say_whether_they_grow_as_hoped(self):
        line = curve.findings(drawn([1, 2, 4, 8, 16, 32]))[0]
        self.assertIn("time ~ size^1.00", line)
        self.assertIn("as hoped", line)
        self.assertIn("no break", line)
        self.assertIn("WORSE", curve.findings(drawn([size**1.5 for size in SIZES]))[0])

    def test_mark_breaks_in_the_table(self):
        lines = curve.table(drawn([1, 2, 4, 20, 40, 80])).splitlines()
        self.assertEqual([line.endswith("break in time") for line in lines], [False] * 4 + [True] + [False] * 2)
        self.assertEqual(lines[4].split()[:3], ["8", "learn", "20"])

    def test_are_drawn_as_svg_with_the_same_bytes_each_time(self):
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("a.svg", "b.svg")]
            for file in files:
                curve.draw(drawn([1, 2, 4, 20, 40, 80]), file)
            self.assertEqual(*(file.read_bytes() for file in files))
            self.assertTrue(xml.etree.ElementTree.parse(files[0]).getroot().tag.endswith("svg"))


if __name__ == "__main__":
    unittest.main()
