"""Runs contenders one after another, each repetition in a process of its own, and keeps what they report."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Contender:
    name: str
    command: list                   # prints one JSON document with "seconds" and "peak_bytes"
    seconds: list = field(default_factory=list)  # of a step: the median of each repetition
    peaks: list = field(default_factory=list)
    loaded: list = field(default_factory=list)


def environment(threads):
    """The same for all contenders: waiting threads sleep, since spinning ones starve whatever else runs, and large pages
    for activations, which recast asks for by itself."""
    os.environ |= {"OMP_WAIT_POLICY": "passive", "THP_MEM_ALLOC_ENABLE": "1", "OMP_NUM_THREADS": str(threads)}


def run_json(words):
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, words))} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def memory_bytes(key):
    """Of this process: "VmRSS" now, "VmHWM" at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return -1


def alternate(contenders, repeats, warmup):
    """Every contender once, then all again, so that whatever else the machine does meets all of them."""
    for repetition in range(repeats):
        for contender in contenders:
            result = run_json(contender.command)
            contender.seconds.append(statistics.median(result["seconds"][warmup:]))
            contender.peaks.append(result["peak_bytes"])
            contender.loaded.append(result.get("loaded_bytes", 0))
            print(f"  {repetition + 1}/{repeats} {contender.name}: {contender.seconds[-1]:.3f} s a step, peak "
                  f"{contender.peaks[-1] / 2**20:.0f} MiB", file=sys.stderr, flush=True)


def summary(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "all": list(values)}


BELOW = 0.97


def row(bench, what, dtype, rival, unit, ours, theirs, more_is_better):
    """One line of the table: the ratio says how many times better ours is, whichever way the unit goes."""
    ours, theirs = summary(ours), summary(theirs)
    ratio = ours["median"] / theirs["median"]
    ratio = ratio if more_is_better else 1 / ratio
    return {"bench": bench, "what": what, "dtype": dtype, "rival": rival, "unit": unit, "ours": ours, "theirs": theirs,
            "ratio": ratio, "below": ratio < BELOW}


def speed_and_memory(bench, dtype, ours, rival, batch_size):
    speeds = [[batch_size / seconds for seconds in contender.seconds] for contender in (ours, rival)]
    peaks = [[peak / 2**20 for peak in contender.peaks] for contender in (ours, rival)]
    return [row(bench, "speed", dtype, rival.name, "images/s", *speeds, more_is_better=True),
            row(bench, "peak memory", dtype, rival.name, "MiB", *peaks, more_is_better=False)]
