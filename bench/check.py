"""bench/check: has anything become slower or larger than it was? Compares ratios with those that bench/recorded has for
this kind of machine (processor, widest matrix instructions, cores) and ends with 1 where one is worse by more than a
fifth. Ratios to rivals of the same run, not times: what else the machine does meets both sides.

--short takes no rivals and seconds: what a learning step and a batch of inference of a small ViT cost, in multiply-adds,
operators and allocations, exact whatever else the machine does (bench/recorded/counts.json), and the share of a step's
processor time that its plain products take, compared where this kind of machine has a record.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import measure
import report

RECORDED = ROOT / "bench" / "recorded"
COMMANDS = {"learn": "run", "infer": "run", "mimic": "run", "recipes": "run", "load": "serve", "grpc": "serve",
            "start": "serve"}
DEFAULT = ("learn", "infer", "mimic")
DROP = 0.2
ATTEMPTS = 3  # of the short form's times: a slower program is slow each time, a disturbed one is not
WIDEST = (("amx_bf16", "amx"), ("avx512_bf16", "avx512_bf16"), ("avx512f", "avx512"), ("avx2", "avx2"))
COUNTS = ("multiply_adds", "operators", "allocations", "allocated_bytes")


# ---- kinds of machines and their records ----------------------------------------------------------------------------


def kind_of(machine):
    """'intel-xeon-processor.amx.2-cores' of what machine() of recast says."""
    cpu = re.sub(r"\((R|TM)\)|\bCPU\b|@.*", " ", machine["cpu"], flags=re.IGNORECASE).lower()
    cpu = "-".join(re.findall(r"[a-z0-9]+", cpu)) or "unknown"
    widest = next((name for flag, name in WIDEST if flag in machine["flags"]), "plain")
    return f"{cpu}.{widest}.{machine['cores']}-cores"


def read_record(path):
    """{part: {row: value}}; nothing where nothing was recorded."""
    return json.loads(path.read_text())["parts"] if path.exists() else {}


def write_record(path, parts, machine):
    """Parts that were not run keep what was recorded."""
    path.parent.mkdir(exist_ok=True)
    provenance = {"commit": report.git("rev-parse", "--short", "HEAD"), "machine": report.machine_text(machine)}
    merged = read_record(path) | {part: {"recorded": provenance, "rows": rows} for part, rows in parts.items()}
    report.write_json(path, {"parts": dict(sorted(merged.items()))})


# ---- comparison -----------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """quality: the new value beside the recorded one, below 1 where it is worse; None where one of them is missing."""

    part: str
    name: str
    recorded: float | None
    now: float | None
    less_is_better: bool = False

    @property
    def quality(self):
        if self.recorded is None or self.now is None:
            return None
        worse, better = (self.now, self.recorded) if self.less_is_better else (self.recorded, self.now)
        return better / worse if worse else 1.0 if better == worse else float("inf")

    @property
    def verdict(self):
        if self.recorded is None:
            return "new"
        if self.now is None:
            return "GONE"
        return "" if self.quality >= 1 - DROP else "DROPPED"


def compare(recorded, now, less_is_better=False):
    """Rows of all parts of `now`, those first that were recorded."""
    rows = []
    for part, values in now.items():
        known = recorded.get(part, {"rows": {}})["rows"]
        rows += [Row(part, name, known.get(name), values.get(name), less_is_better)
                 for name in [*known, *(name for name in values if name not in known)]]
    return rows


def failed(rows):
    return [row for row in rows if row.verdict in ("DROPPED", "GONE")]


def text(value):
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def table(rows):
    lines = [("part", "row", "recorded", "now", "change", "")]
    for row in rows:
        change = "-" if row.quality is None else f"{100 * (row.quality - 1):+.1f} %"
        lines.append((row.part, row.name, text(row.recorded), text(row.now), change, row.verdict))
    return report.aligned(lines)


# ---- what is measured -----------------------------------------------------------------------------------------------


def rows_of(document):
    """{part: {row: ratio}} of what bench/run or bench/serve wrote."""
    parts = {}
    for row in document["rows"]:
        name = ", ".join(row[key] for key in ("what", "dtype", "rival", "unit"))
        parts.setdefault(row["bench"], {})[name] = row["ratio"]
    return parts


def read_results(paths):
    """What several runs compare with their rivals, and the machine of the last one."""
    now, machine = {}, {}
    for path in paths:
        document = json.loads(path.read_text())
        now |= rows_of(document)
        machine = document["machine"]
    return now, machine


def run_benches(parts, more):
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for command in dict.fromkeys(COMMANDS[part] for part in parts):
            results.append(Path(folder) / f"{command}.json")
            words = [ROOT / "bench" / command, *(part for part in parts if COMMANDS[part] == command), "--json",
                     results[-1], *more]
            if subprocess.run([str(word) for word in words]).returncode:
                raise SystemExit(f"bench/check: bench/{command} failed, nothing is compared")
        return read_results(results)


def count(program, steps):
    return measure.run_json([program, "--steps", steps])


def counts_of(document):
    return {case: {name: counts[name] for name in COUNTS} for case, counts in document["cases"].items()}


def shares_of(document):
    return {"short": {case: counts["products_of_a_step"] for case, counts in document["cases"].items()}}


def best(first, second):
    return {part: {name: max(value, second[part][name]) for name, value in rows.items()}
            for part, rows in first.items()}


@dataclass
class Findings:
    """now: {file in bench/recorded: {part: {row: value}}}."""

    machine: dict
    rows: list
    now: dict
    kind_known: bool


def short(program, steps, folder=RECORDED):
    document = count(program, steps)
    own = f"{kind_of(document['machine'])}.json"
    recorded, counts, shares = read_record(folder / own), counts_of(document), shares_of(document)
    for _ in range(ATTEMPTS - 1):
        if not failed(compare(recorded, shares)):
            break
        shares = best(shares, shares_of(count(program, steps)))
    rows = compare(read_record(folder / "counts.json"), counts, less_is_better=True) + compare(recorded, shares)
    return Findings(document["machine"], rows, {"counts.json": counts, own: shares}, "short" in recorded)


def full(now, machine, folder=RECORDED):
    own = f"{kind_of(machine)}.json"
    recorded = read_record(folder / own)
    return Findings(machine, compare(recorded, now), {own: now}, any(part in recorded for part in now))


# ---- command line ---------------------------------------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(prog="bench/check", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help=f"of {', '.join(COMMANDS)} (default: {' '.join(DEFAULT)})")
    parser.add_argument("--short", action="store_true", help="counts and shares of one small ViT, no rivals")
    parser.add_argument("--record", action="store_true", help="write down what is measured now")
    parser.add_argument("--strict", action="store_true", help="no record for this kind of machine is a failure")
    parser.add_argument("--more", default="", help="flags for bench/run and bench/serve, as one word")
    parser.add_argument("--from", type=Path, nargs="+", dest="results", metavar="FILE",
                        help="compare what bench/run or bench/serve wrote with --json; nothing is run")
    parser.add_argument("--steps", type=int, default=20, help="of the short form's times (default 20)")
    parser.add_argument("--count-bench", type=Path, default=ROOT / "build/dev/bin/count_bench")
    parser.add_argument("--recorded", type=Path, default=RECORDED, help="folder of the records")
    chosen = parser.parse_args()
    for part in chosen.parts:
        if part not in COMMANDS:
            parser.error(f"no part '{part}': {', '.join(COMMANDS)}")
    if chosen.short and (chosen.parts or chosen.results):
        parser.error("--short takes no parts and no results")
    if chosen.steps < 1:
        parser.error("--steps is at least 1")
    chosen.parts = chosen.parts or list(DEFAULT)
    return chosen


def verdict(findings, strict):
    """The last line and the exit status."""
    kind = kind_of(findings.machine)
    dropped, known = failed(findings.rows), [row for row in findings.rows if row.recorded is not None]
    if dropped:
        return f"FAILED, {len(dropped)} of {len(known)} rows dropped by more than {DROP:.0%} or are gone; {kind}", 1
    if not findings.kind_known:
        return f"no record for {kind}, --record would write what stands under 'now'", 1 if strict else 0
    return f"ok, {len(known)} rows, {len(findings.rows) - len(known)} without a record; {kind}", 0


def main():
    chosen = arguments()
    if chosen.short:
        os.environ |= {"OMP_NUM_THREADS": "1"}
        findings = short(chosen.count_bench, chosen.steps, chosen.recorded)
    else:
        findings = full(*(read_results(chosen.results) if chosen.results else
                          run_benches(chosen.parts, chosen.more.split())), chosen.recorded)
    print(table(findings.rows))
    last, status = verdict(findings, chosen.strict)
    if chosen.record:
        for name, parts in findings.now.items():
            write_record(chosen.recorded / name, parts, findings.machine)
        last, status = f"recorded {', '.join(findings.now)}", 0
    print(f"bench/check: {last}")
    return status


if __name__ == "__main__":
    sys.exit(main())
