"""bench/run switch: from one task to another beside PyTorch's load_state_dict() of the same weights, opening a model
directory, and the memory of inference."""

import sys
from pathlib import Path
from statistics import median

from safetensors.torch import load_file

import agreement
import measure
import workload
from measure import run_json
from report import number
from serving import tasks

HERE = Path(__file__).resolve().parent
TASKS, IN_TURN, TURNS = 100, 4, 40                      # stored; that take turns; switches of a run
SWITCH_MS, FASTER, OPEN_S, MEMORY = 5, 20, 0.3, 1.3     # the goals


def seconds_of_switch(result):
    """From numbers in memory, and from the store. A pass after a switch less one without: what the switch leaves to the
    next pass, the packing of weights included. Where every pass makes the weights anew the two are alike, and it is
    making them that counts."""
    after, without, making = (median(result[key]) for key in ("first_seconds", "again_seconds", "make_seconds"))
    switch = max(after - without, making)
    return switch, median(result["load_seconds"]) + switch


class Switch:
    def __init__(self, bench):
        self.bench, self.options, self.folder = bench, bench.options, bench.work.folder
        self.numbers, self.model = self.folder / "switch-numbers.safetensors", self.folder / "switch-model"
        # One size, so that one network takes all.
        tasks.make_numbers(self.numbers, bench.work.model, TASKS, (workload.CLASSES,))
        tasks.fill(self.options.write_tasks, bench.work.model, self.model, self.numbers, TASKS, workload.IMAGE_PX)
        self.names = [tasks.task_name(task) for task in range(IN_TURN)]

    def ours(self, what, dtype, *more):
        return run_json([self.options.switch_bench, what, "--model", self.model, "--batch", self.bench.work.batch,
                         "--tasks", *self.names, "--dtype", dtype, "--threads", self.options.threads, *more])

    def theirs(self, dtype, *more):
        work = self.bench.work
        return run_json([sys.executable, HERE / "state_dicts.py", "--checkpoint", work.checkpoint, "--model",
                         work.model, "--numbers", self.numbers, "--batch", work.batch, "--folder", self.folder,
                         "--tasks", IN_TURN, "--dtype", dtype, "--threads", self.options.threads, *more])

    def check(self, dtype):
        files = [self.folder / f"switch-{who}.safetensors" for who in ("ours", "theirs")]
        self.ours("logits", dtype, "--out", files[0])
        self.theirs(dtype, "--out", files[1])
        ours, theirs = map(load_file, files)
        self.bench.require([agreement.compare_logits(f"switch {dtype}, {name}", dtype, ours[name], theirs[name])
                            for name in self.names])

    def compare(self, dtype):
        runs = [(self.theirs(dtype, "--repeats", TURNS), self.ours("switch", dtype, "--repeats", TURNS))
                for _ in range(self.options.repeats)]
        memory, store = zip(*(seconds_of_switch(ours) for _, ours in runs))
        for what, switches, rival, key in (("numbers in memory", memory, "load_state_dict, memory", "memory_seconds"),
                                           ("numbers in the store", store, "load_state_dict, file", "file_seconds")):
            row = measure.row("switch", what, dtype, rival, "s", switches, [median(theirs[key]) for theirs, _ in runs],
                              more_is_better=False)
            self.bench.rows.append(row)
            self.bench.judge(f"switch {dtype}, {what}", row["ours"]["median"] * 1e3, SWITCH_MS, "ms")
            self.bench.judge(f"switch {dtype}, {what}, beside {rival}", row["ratio"], FASTER, "times as fast",
                             more_is_better=True)
        self.bench.notes.append(
            f"switch {dtype}, medians in ms: a pass of one image "
            + ", ".join(f"{text} {number(1e3 * median(median(ours[f'{key}_seconds']) for _, ours in runs))}"
                        for text, key in (("after a switch", "first"), ("without one", "again"),
                                          ("making all weights of a task", "make"), ("reading a task", "load")))
            + f"; a state dict has {number(runs[0][0]['state_bytes'] / 2**20)} MiB")
        return [ours["open_seconds"] for _, ours in runs]

    def memory(self, dtype, rows):
        runs = [self.ours("memory", dtype, "--rows", rows) for _ in range(self.options.repeats)]
        shares = [(run["peak_bytes"] - run["before_bytes"]) / run["weight_bytes"] for run in runs]
        what = f"memory {dtype}, {rows} image{'s' if rows > 1 else ''}"
        self.bench.judge(what, median(shares), MEMORY, "times the weights in use")
        self.bench.notes.append(
            f"{what}: {number(median(run['peak_bytes'] - run['before_bytes'] for run in runs) / 2**20)} MiB at most "
            f"for {number(runs[0]['weight_bytes'] / 2**20)} MiB of weights, beside the "
            f"{number(median(run['before_bytes'] for run in runs) / 2**20)} MiB of the program")


def run(bench):
    switch = Switch(bench)
    opening = []
    for dtype in bench.options.dtypes:
        switch.check(dtype)
        opening += switch.compare(dtype)
    bench.judge("opening a model directory, first of a process", median(run[0] for run in opening), OPEN_S, "s")
    bench.judge("opening a model directory, again", median(median(run[1:]) for run in opening), OPEN_S, "s")
    for dtype in bench.options.dtypes:
        for rows in (1, bench.options.batch):
            switch.memory(dtype, rows)
