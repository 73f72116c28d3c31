"""bench/run: recast beside its rivals. Results are checked first; a check that fails ends the bench without a time."""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "golden")]

from safetensors.torch import load_file

import agreement
import data_part
import goals
import measure
import mimic_part
import recipes_part
import report
import switch_part
import workload
from measure import Contender, run_json
from report import number

BENCHES = ("learn", "infer", "mimic", "recipes", "switch", "data")
OF_ALL = ("learn", "infer")  # the others are of the ViT alone, or bring networks of their own
CHECKED_STEPS = 3
LEARN_STEPS, INFER_STEPS, WARMUP = 4, 6, 1  # batches of a repetition, the first of which warms up


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--architecture", choices=list(workload.MIMICKED), default=workload.ARCHITECTURE,
                        help=f"of {' and '.join(OF_ALL)} (default {workload.ARCHITECTURE})")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each contender (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="of each contender (default 2)")
    parser.add_argument("--batch", type=int, default=32, help="images a step (default 32)")
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--learn-steps", type=int, default=LEARN_STEPS,
                        help="of a run; the first one warms up (data: of an epoch)")
    parser.add_argument("--infer-steps", type=int, default=INFER_STEPS, help="of a run; the first one warms up")
    parser.add_argument("--gradient-steps", type=int, default=0,
                        help="of the gradient solver (default: the paper's, 1000 or 3000)")
    parser.add_argument("--architectures", nargs="*", help="mimic these alone: the beginning of a name")
    parser.add_argument("--paper-epochs", type=int, default=100, help="of recipe paper (the paper: 100)")
    parser.add_argument("--recipe-images", type=int, default=25, help="images of each class to learn from")
    parser.add_argument("--recipe-px", type=int, default=56, help="side of those images (a multiple of 14)")
    parser.add_argument("--augmentation", default="paper", help="of bench data (default paper)")
    parser.add_argument("--recast", type=Path, default=ROOT / "build/bin/recast")
    for program in ("step_bench", "mimic_bench", "switch_bench", "data_bench", "write_tasks"):
        parser.add_argument(f"--{program.replace('_', '-')}", type=Path, default=ROOT / "build/dev/bin" / program)
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench", help="for files on the way")
    chosen = parser.parse_args()
    known = BENCHES if chosen.architecture == workload.ARCHITECTURE else OF_ALL
    chosen.names = chosen.names or list(known)
    chosen.dtypes = chosen.dtypes.split(",")
    for name in chosen.names:
        if name not in known:
            parser.error(f"no bench '{name}' of {chosen.architecture}: {', '.join(known)}")
    if min(chosen.learn_steps, chosen.infer_steps) <= WARMUP or chosen.repeats < 1:
        parser.error(f"at least {WARMUP + 1} steps and one run")
    return chosen


class Bench:
    def __init__(self, options):
        self.options = options
        self.checks, self.rows, self.notes, self.goals = [], [], [], []
        self.work = None
        self.machine = {}

    # ---- commands of the contenders ----

    def ours(self, what, dtype, steps=1, start=None, out=None, epochs=1):
        words = [self.options.step_bench, what, "--model", self.work.model, "--start", start or self.work.start,
                 "--batch", self.work.batch, "--dtype", dtype, "--threads", self.options.threads, "--steps", steps,
                 "--epochs", epochs]
        return words + (["--out", out] if out else [])

    def theirs(self, kind, what, dtype, steps=1, start=None, out=None):
        if kind == "onnxruntime":
            return [sys.executable, ROOT / "bench/onnx_contender.py", "--network", self.work.network, "--batch",
                    self.work.batch, "--threads", self.options.threads, "--steps", steps]
        words = [sys.executable, ROOT / "bench/contender.py", what, "--kind", kind, "--checkpoint",
                 self.work.checkpoint, "--model", self.work.model, "--start", start or self.work.start, "--batch",
                 self.work.batch, "--dtype", dtype, "--threads", self.options.threads, "--steps", steps]
        return words + (["--out", out] if out else [])

    # ---- checks ----

    def require(self, checks):
        """One that fails ends the bench."""
        agreement.require(checks, self.checks)

    def judge(self, what, value, bound, unit, more_is_better=False):
        """Puts a figure beside its goal."""
        reached = value >= bound if more_is_better else value <= bound
        self.goals.append({"what": what, "value": value, "goal": bound, "unit": unit, "more_is_better": more_is_better,
                           "reached": reached})

    def check_step(self, dtype):
        """Logits, loss, gradients and the losses of three steps: recast and the plain PyTorch RECAST."""
        name = f"learn {dtype}, torch-recast"
        files = [self.work.folder / f"{who}.safetensors" for who in ("ours", "theirs")]
        run_json(self.ours("gradients", dtype, out=files[0]))
        run_json(self.theirs("torch-recast", "gradients", dtype, out=files[1]))
        ours, theirs = map(load_file, files)
        network = self.work.architecture
        self.require([agreement.compare_logits(name, dtype, ours["logits"], theirs["logits"], network)])
        self.require(agreement.compare_gradients(name, dtype, ours, theirs, network))
        # One batch an epoch: then the loss of an epoch is that of a step.
        losses = run_json(self.ours("learn", dtype, epochs=CHECKED_STEPS))["losses"]
        wanted = run_json(self.theirs("torch-recast", "learn", dtype, steps=CHECKED_STEPS))["losses"]
        self.require(agreement.compare_losses(name, dtype, losses, wanted, theirs["logits"], network))
        return theirs["logits"]

    def check_losses(self, what, dtype, kinds, logits):
        """The loss before anything moves: recast at the numbers that each contender starts from."""
        ours = {}
        for kind in kinds:
            start = self.work.neutral if kind.startswith("peft") else self.work.start
            if start not in ours:
                ours[start] = run_json(self.ours("infer", dtype, start=start))["losses"]
            theirs = run_json(self.theirs(kind, what, dtype, start=start))["losses"]
            self.require(agreement.compare_losses(f"{what} {dtype}, {kind}", dtype, ours[start], theirs, logits,
                                                  self.work.architecture))

    # ---- benches ----

    def learn(self):
        others, rows = ["torch-recast-compiled", *self.of_the_vit("peft-lora")], []
        for dtype in self.options.dtypes:
            logits = self.check_step(dtype)
            self.check_losses("learn", dtype, others, logits)
            rows += self.compare("learn", dtype, ["torch-recast", *others], self.options.learn_steps)
        for goal in goals.of_learning(self.title("learn"), rows, self.machine["flags"]):
            self.judge(*goal)

    def infer(self):
        rows = []
        for dtype in self.options.dtypes:
            kinds = ["torch-recast", "torch-recast-kept", "torch-recast-kept-compiled",
                     *self.of_the_vit("peft-lora", "peft-lora-merged")]
            if dtype == "fp32":  # its CPU provider has no products in bf16
                kinds.append("onnxruntime")
                run_json(self.theirs("torch-recast-kept", "export", dtype, out=self.work.network))
            logits = self.logits(dtype) if "learn" in self.options.names else self.check_step(dtype)
            self.check_losses("infer", dtype, kinds, logits)
            rows += self.compare("infer", dtype, kinds, self.options.infer_steps)
        for goal in goals.of_inference(self.title("infer"), rows, self.options.batch):
            self.judge(*goal)

    def of_the_vit(self, *kinds):
        """LoRA starts from the checkpoint's weights: of a CNN, templates have others."""
        return kinds if self.work.architecture == workload.ARCHITECTURE else ()

    def title(self, what):
        return what if self.work.architecture == workload.ARCHITECTURE else f"{what} {self.work.architecture}"

    def logits(self, dtype):
        out = self.work.folder / "theirs.safetensors"
        run_json(self.theirs("torch-recast", "gradients", dtype, out=out))
        return load_file(out)["logits"]

    def compare(self, what, dtype, kinds, steps):
        rivals = [Contender(kind, self.theirs(kind, what, dtype, steps)) for kind in kinds]
        ours = Contender("recast", self.ours(what, dtype, steps))
        measure.alternate([rivals[0], ours, *rivals[1:]], self.options.repeats, WARMUP)
        rows = [row for rival in rivals
                for row in measure.speed_and_memory(self.title(what), dtype, ours, rival, self.options.batch)]
        self.rows += rows
        return rows

    def mimic(self):
        mimic_part.run(self)

    def switch(self):
        switch_part.run(self)

    def data(self):
        data_part.run(self)

    def recipes(self):
        recipes_part.run(self)

    def run(self):
        self.work = workload.make_workload(self.options.folder, self.options.recast, self.options.batch,
                                           architecture=self.options.architecture)
        probe = run_json([self.options.step_bench, "mimic", "--model", self.work.base, "--threads",
                          self.options.threads])
        self.machine = probe["machine"] | {"recast": probe["versions"]["recast"]}
        for name in self.options.names:
            print(f"{name}: checks before any time", flush=True)
            getattr(self, name)()
            write_json(self)


def document(bench):
    packages = ("torch", "timm", "peft", "transformers", "onnxruntime")
    return report.provenance("bench/run", bench.machine, packages) | {
        "architecture": bench.options.architecture, "load_average_before": bench.load,
        "threads": bench.options.threads, "batch": bench.options.batch, "repeats": bench.options.repeats,
        "checks": [check.as_json() for check in bench.checks], "rows": bench.rows, "goals": bench.goals,
        "notes": bench.notes}


def write_json(bench):
    if bench.options.json:
        report.write_json(bench.options.json, document(bench))


def print_table(bench):
    header = ("bench", "what", "dtype", "rival", "unit", "ours", "least..most", "rival's", "least..most", "ratio", "")
    lines = [header] + [
        (row["bench"], row["what"], row["dtype"], row["rival"], row["unit"],
         number(row["ours"]["median"]), f"{number(row['ours']['least'])}..{number(row['ours']['most'])}",
         number(row["theirs"]["median"]), f"{number(row['theirs']['least'])}..{number(row['theirs']['most'])}",
         f"{row['ratio']:.3f}", f"below {measure.BELOW}" if row["below"] else "") for row in bench.rows]
    print(report.aligned(lines))
    for goal in bench.goals:
        bound = f"{'at least' if goal['more_is_better'] else 'at most'} {goal['goal']}"
        print(f"{goal['what']}: {number(goal['value'])} {goal['unit']} (goal: {bound}): "
              f"{'reached' if goal['reached'] else 'MISSED'}")
    for note in bench.notes:
        print(note)
    print(f"ratio: times that recast is better (speed: ours / rival's, time and memory: rival's / ours); medians of "
          f"{bench.options.repeats}; {report.machine_text(bench.machine)}; {bench.options.threads} threads")


def main():
    options = arguments()
    measure.environment(options.threads)
    bench = Bench(options)
    bench.load = os.getloadavg()[0]
    failed = False
    try:
        bench.run()
    except agreement.CheckFailed:
        failed = True
        print("bench: a check failed, so no times are given", file=sys.stderr)
        bench.rows, bench.goals = [], []
    if not failed:
        print_table(bench)
    write_json(bench)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
