"""bench/run data: learning from JPEG files beside learning from decoded pixels, and how fast those flow alone."""

import shutil
from statistics import median

import agreement
import measure
import workload
from measure import Contender, run_json
from report import number
from serving import tasks

SLOWER, FASTER = 10, 50  # the goals: percent of a step, times a step's images
EPOCHS, FLOW_EPOCHS, WARMUP = 2, 20, 1
MODES = {"decoded in every epoch, augmented": (False, True), "cached, augmented": (True, True),
         "cached, as they are": (True, False)}
ALL, AUGMENTED, PLAIN = MODES


def write_images(folder, training):
    """Class folders: so many images to learn from, one a class to validate on and to test."""
    shutil.rmtree(folder, ignore_errors=True)
    splits = ["train"] * training + ["val"] * workload.CLASSES + ["test"] * workload.CLASSES
    for place, (split, image) in enumerate(zip(splits, tasks.jpeg_images(len(splits)))):
        path = folder / split / f"class-{place % workload.CLASSES}" / f"{place:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)


class Data:
    def __init__(self, bench):
        self.bench, self.options = bench, bench.options
        self.folder = bench.work.folder / "photographs"
        write_images(self.folder, max(self.options.batch * self.options.learn_steps, workload.CLASSES))

    def command(self, what, augmented, *more):
        return [self.options.data_bench, what, "--model", self.bench.work.model, "--data", self.folder, "--batch-size",
                self.options.batch, "--threads", self.options.threads, "--augmentation",
                self.options.augmentation if augmented else "none", *more]

    def learning(self, mode, dtype):
        cached, augmented = MODES[mode]
        return self.command("learn", augmented, "--start", self.bench.work.start, "--dtype", dtype, "--epochs", EPOCHS,
                            *(["--cached"] if cached else []))

    def check(self):
        result = run_json(self.command("check", True))
        self.bench.require([agreement.Check(f"data: batches of {result['batches']} that differ, decoded and cached",
                                            result["differing"], 0)])

    def check_losses(self, dtype):
        """Bit for bit: they learn from the same pixels in the same order."""
        ours, theirs = (run_json(self.learning(mode, dtype))["losses"] for mode in (ALL, AUGMENTED))
        self.bench.require([agreement.Check(f"data {dtype}: loss of epoch {epoch + 1}, decoded and cached", abs(a - b),
                                            0) for epoch, (a, b) in enumerate(zip(ours, theirs, strict=True))])

    def compare(self, dtype):
        """Images a second of a step on pixels as they are."""
        contenders = {mode: Contender(mode, self.learning(mode, dtype)) for mode in MODES}
        measure.alternate(contenders.values(), self.options.repeats, WARMUP)
        rows = [measure.speed_and_memory("data", dtype, contenders[mode], contenders[PLAIN], self.options.batch)[0]
                | {"what": mode} for mode in (ALL, AUGMENTED)]
        self.bench.rows += rows
        self.bench.judge(f"data {dtype}: decoding and augmentation ({self.options.augmentation}) slow learning by",
                         100 * (1 / rows[0]["ratio"] - 1), SLOWER, "%")
        return rows[0]["theirs"]["median"]

    def flow(self):
        """Images a second of the loader, and of batches as a step takes them."""
        runs = [run_json(self.command("flow", False, "--epochs", FLOW_EPOCHS)) for _ in range(self.options.repeats)]
        loader, stream = (median(run["images"] / median(run[f"{key}_seconds"][WARMUP:]) for run in runs)
                          for key in ("loader", "stream"))
        self.bench.notes.append(f"data: cached pixels leave the loader at {number(loader)} images/s, normalised for a "
                                f"step at {number(stream)}")
        return stream


def run(bench):
    data = Data(bench)
    data.check()
    for dtype in bench.options.dtypes:
        data.check_losses(dtype)
    flow = data.flow()
    for dtype in bench.options.dtypes:
        bench.judge(f"data {dtype}: cached pixels flow", flow / data.compare(dtype), FASTER, "times as fast as a step",
                    more_is_better=True)
