"""bench/growth: how time and memory grow, each against one size, the other sizes kept.

  images   `recast learn`, one epoch of 50 to 1,600 images of 64 px, files to stored task (wall) and the epoch alone
  tasks    `recast tasks show` and `recast predict` of one task among 1 to 100,000 in the store
  size     a step of learning and a batch of inference of 4 images of 32 to 448 px
  depth    the same with 2 to 24 blocks
  batch    the same with 1 to 256 images
  threads  the same on 1 thread to all cores

Network: ViT-S/16 with random weights, 48 coefficients a task. Steps are those of bench/run, the median of a few after one
that warms up. Results are checked first: losses are finite; a batch of any size and any number of threads give the
losses of each image by itself; a task's answer is the same however many others there are. A check that fails ends the
bench with status 1.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench" / "serving"), str(ROOT / "bench"), str(ROOT / "tests" / "golden")]

import torch
from safetensors.torch import load_file, save_file

import agreement
import curve
import measure
import ranks
import report
import tasks
import workload
from agreement import Check
from curve import Curve
from measure import run_json

SIZES = {"images": (50, 100, 200, 400, 800, 1600), "tasks": (1, 10, 100, 1000, 10_000, 100_000),
         "size": (32, 64, 96, 160, 224, 320, 448), "depth": (2, 4, 6, 12, 18, 24),
         "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256)}
WHATS = ("learn", "infer")
STEPS, WARMUP, PROCESSES = 4, 1, 2  # batches of a process, of which the first warms up; runs of a `recast` command
SMALL_PX = 64


class Bench:
    def __init__(self, options):
        self.options, self.checks, self.curves, self.work = options, [], [], None

    def require(self, *checks):
        """One that fails ends the bench."""
        agreement.require(checks, self.checks)

    def sizes(self, name):
        known = SIZES.get(name) or sorted({1, 2, 4, 8, 16, 32, 64, os.cpu_count()})
        return [size for size in known if size <= (self.options.most or math.inf)
                and (name != "threads" or size <= os.cpu_count())]

    # ---- programs ----

    def step(self, what, model, start, batch, threads=None, steps=STEPS, out=None):
        words = [self.options.step_bench, what, "--model", model, "--start", start, "--batch", batch, "--dtype",
                 self.options.dtype, "--threads", threads or self.options.threads, "--steps", steps]
        return run_json(words + (["--out", out] if out else []))

    def recast(self, *words):
        """The best of a few runs: {"wall_seconds", "peak_bytes"} and what the command printed as JSON."""
        runs = []
        for _ in range(PROCESSES):
            command = [sys.executable, "-S", ROOT / "bench/peak.py", self.options.recast, *words, "--threads",
                       self.options.threads, "--json", "--quiet"]
            done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(f"bench: {' '.join(map(str, command))} ended with status {done.returncode}")
            printed, _, used = done.stdout.strip().rpartition("\n")
            runs.append(json.loads(used) | {"printed": json.loads(printed)})
        return min(runs, key=lambda run: run["wall_seconds"])

    def batch(self, images, px):
        """The first so many of the same images and labels, whatever their number."""
        path = self.options.folder / "batch-of-size.safetensors"
        drawn = [torch.randn(3, px, px, generator=torch.Generator().manual_seed(image)) for image in range(images)]
        save_file({"input": torch.stack(drawn), "label": torch.arange(images) % workload.CLASSES}, path)
        return path

    def steps(self, found, size, model, start, batch, threads=None):
        """A point of learning and one of inference; the losses of inference."""
        for what in WHATS:
            result = self.step(what, model, start, batch, threads)
            self.finite(f"{found.name} {size:,}: {what}", result["losses"])
            found.add(what, size, statistics.median(result["seconds"][WARMUP:]), result["peak_bytes"])
        return result["losses"]

    def finite(self, name, losses):
        self.require(Check(f"{name}: losses that are not finite", sum(not math.isfinite(loss) for loss in losses), 0))

    def row_losses(self, batch):
        """Losses of each image, and the tolerance of a batch's mean, from the logits that learning sees."""
        out = self.options.folder / "logits.safetensors"
        self.step("gradients", self.work.model, self.work.start, batch, out=out)
        logits, label = load_file(out)["logits"], load_file(batch)["label"]
        losses = torch.nn.functional.cross_entropy(logits.double(), label, reduction="none")
        return losses, lambda rows: agreement.loss_tolerance(self.options.dtype, logits[:rows])

    # ---- curves ----

    def images(self):
        found = Curve("images", "images")
        data = self.options.folder / f"images-{SMALL_PX}"
        ranks.write_images(data, 2 * max(SIZES["images"]) // workload.CLASSES, SMALL_PX)
        for size in self.sizes("images"):
            model = self.options.folder / "learned"
            shutil.rmtree(model, ignore_errors=True)
            shutil.copytree(self.work.model, model)
            run = self.recast("learn", model, "--task", "noise", "--data", data, "--recipe", "paper", "--plug",
                              "recast", "--epochs", 1, "--batch-size", 32, "--image-size", SMALL_PX, "--amp",
                              self.options.dtype, "--limit-train", size // workload.CLASSES, "--limit-validation", 1,
                              "--no-test", "--force")
            printed = run["printed"]
            self.require(Check(f"images {size:,}: images too many or too few",
                               abs(printed["images"]["train"] - size), 0))
            epochs = [line for line in printed["history"] if line["stage"] == "train"]
            self.finite(f"images {size:,}", [epoch["train_loss"] for epoch in epochs])
            found.add("files to stored task", size, run["wall_seconds"], run["peak_bytes"])
            found.add("the epoch", size, epochs[-1]["seconds"], run["peak_bytes"])
        return found

    def tasks(self):
        found, first = Curve("tasks", "tasks in the store"), None
        image = self.options.folder / "image.jpeg"
        image.write_bytes(tasks.jpeg_images()[0])
        sizes = self.sizes("tasks")
        numbers = tasks.kept_numbers(self.options.folder, self.work.model, min(sizes[-1], tasks.DISTINCT))
        for size in sizes:
            model = tasks.filled_model(self.options, numbers, size)
            shown = self.recast("tasks", model, "show", tasks.task_name(0))
            answer = self.recast("predict", model, image, "--task", tasks.task_name(0))
            first = first or answer["printed"]
            self.require(Check(f"tasks {size:,}: answers other than with the first store",
                               int(answer["printed"] != first), 0))
            found.add("show", size, shown["wall_seconds"], shown["peak_bytes"])
            found.add("predict", size, answer["wall_seconds"], answer["peak_bytes"])
        return found

    def size(self):
        found = Curve("size", "pixels an image")
        for px in self.sizes("size"):
            self.steps(found, px * px, self.work.model, self.work.start, self.batch(4, px))
        return found

    def depth(self):
        found = Curve("depth", "blocks")
        for depth in self.sizes("depth"):
            model, start = self.of_depth(depth)
            self.steps(found, depth, model, start, self.batch(4, 112))
        return found

    def of_depth(self, depth):
        """The network with so many blocks, those of the twelve in turn; two layers a bank, as the original."""
        base, model = (self.options.folder / f"{kind}-of-depth" for kind in ("base", "model"))
        base.mkdir(exist_ok=True)
        config = json.loads((self.work.base / "config.json").read_text())
        config["vit"]["depth"] = depth
        (base / "config.json").write_text(json.dumps(config))
        given = load_file(self.work.base / "backbone.safetensors")
        tensors = {name: tensor for name, tensor in given.items() if not name.startswith("blocks.")}
        for block in range(depth):
            from_block = f"blocks.{block % workload.DEPTH}."
            tensors |= {f"blocks.{block}.{name.removeprefix(from_block)}": tensor.clone()
                        for name, tensor in given.items() if name.startswith(from_block)}
        save_file(tensors, base / "backbone.safetensors")
        workload.mimic(self.options.recast, base, model, depth // 2)
        start = self.options.folder / "start-of-depth.safetensors"
        save_file(workload.starting_numbers(torch.Generator().manual_seed(1), 0.1, model), start)
        return model, start

    def batch_size(self):
        found = Curve("batch", "images a batch")
        sizes = self.sizes("batch")
        losses, tolerance = self.row_losses(self.batch(sizes[-1], SMALL_PX))
        for size in sizes:
            loss, = self.steps(found, size, self.work.model, self.work.start, self.batch(size, SMALL_PX))
            self.require(Check(f"batch {size}: loss beside that of its images by themselves",
                               abs(loss - losses[:size].mean().item()), tolerance(size)))
        return found

    def threads(self):
        found = Curve("threads", "threads", ideal=-1)
        batch = self.batch(16, 112)
        losses, tolerance = self.row_losses(batch)
        for size in self.sizes("threads"):
            loss, = self.steps(found, size, self.work.model, self.work.start, batch, threads=size)
            self.require(Check(f"threads {size}: loss beside that of its images by themselves",
                               abs(loss - losses.mean().item()), tolerance(len(losses))))
        return found

    CURVES = {"images": images, "tasks": tasks, "size": size, "depth": depth, "batch": batch_size, "threads": threads}

    def run(self):
        self.work = workload.make_workload(self.options.folder, self.options.recast, 1)
        probe = run_json([self.options.step_bench, "mimic", "--model", self.work.base])
        self.machine = probe["machine"] | {"recast": probe["versions"]["recast"]}
        for name in self.options.names:
            print(name, flush=True)
            found = self.CURVES[name](self)
            self.curves.append(found)
            print(curve.table(found))
            print("\n".join(curve.findings(found)) + "\n", flush=True)
            curve.draw(found, self.options.out / f"growth_{name}.svg")
            self.write_json()
        print(f"{report.machine_text(self.machine)}; {os.cpu_count()} cores; {self.options.threads} threads; "
              f"{self.options.dtype}; load average before: {self.load_before:.2f}; plots in {self.options.out}")

    def write_json(self):
        if self.options.json:
            report.write_json(self.options.json, report.provenance("bench/growth", self.machine, ("torch", "timm")) | {
                "load_average_before": self.load_before, "threads": self.options.threads, "dtype": self.options.dtype,
                "checks": [check.as_json() for check in self.checks],
                "curves": [curve.as_json(found) for found in self.curves]})


def arguments():
    parser = argparse.ArgumentParser(prog="bench/growth", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="CURVE", help=f"of {', '.join(Bench.CURVES)} (default: all)")
    parser.add_argument("--most", type=int, help="leave out larger sizes; for size the side in pixels")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--json", type=Path, help="write the points to this file")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench/growth", help="folder of the plots")
    parser.add_argument("--recast", type=Path, default=ROOT / "build/bin/recast")
    parser.add_argument("--step-bench", type=Path, default=ROOT / "build/dev/bin/step_bench")
    parser.add_argument("--write-tasks", type=Path, default=ROOT / "build/dev/bin/write_tasks")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench/growth", help="for files on the way")
    chosen = parser.parse_args()
    chosen.names = chosen.names or list(Bench.CURVES)
    chosen.image_size = workload.IMAGE_PX  # of the stored tasks
    bench = Bench(chosen)
    for name in chosen.names:
        if name not in Bench.CURVES:
            parser.error(f"no curve '{name}': {', '.join(Bench.CURVES)}")
        if not bench.sizes(name):
            parser.error(f"--most {chosen.most} leaves nothing of {name}")
    return bench


def main():
    bench = arguments()
    measure.environment(bench.options.threads)
    bench.load_before = os.getloadavg()[0]
    try:
        bench.run()
    except agreement.CheckFailed:
        print("bench: a check failed, so no figures are given", file=sys.stderr)
        bench.curves = []
        bench.write_json()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
