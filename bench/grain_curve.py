#!/usr/bin/env python3
"""The curve of accuracy against numbers a task: grains of RECAST beside LoRA, several tasks, several seeds.

Every point is one `recast learn` of the built program by recipe `fast` from images on disk, and one `recast eval` on test
images; what they print with --json is kept in FOLDER/rows, one file a point, so that a run can be stopped at any moment
and started again. Tables and plot are made from those files alone.

    bench/grain_curve.py [--rows curve|extra|bits|NAME,...] [--tasks ...] [--seeds ...] [--limit N]
    bench/grain_curve.py --report          tables and plot of what is there, nothing is learned

Tasks: Fashion-MNIST (Debian's dataset-fashion-mnist) and two tasks of ten classes out of CIFAR-100, from the folder that
--cifar names (its unpack.py is run). The seed is also that of the split, so that each draws images of its own; all rows
of a task and a seed see the same images, and differences are taken between such pairs.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "build/zoo/vit_small_patch14_imgfocus.safetensors"
FASHION = Path("/usr/share/datasets/fashion-mnist")
SEEDS = (42, 1998, 3142592)
# Memory that was given back is kept: page faults are a tenth of a step otherwise.
ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "67108864",
               **os.environ}
CIFAR_TASKS = {
    "plants": "maple_tree oak_tree palm_tree pine_tree willow_tree orchid poppy rose sunflower tulip".split(),
    "vehicles": "bicycle bus motorcycle pickup_truck train lawn_mower rocket streetcar tank tractor".split(),
}
TASKS = ("plants", "vehicles", "fashion")


@dataclass
class Row:
    """One way to learn. numbers: what it must train, checked; None: whatever it says."""

    name: str
    label: str
    model: str
    plugs: list
    numbers: int | None = None
    more: list = field(default_factory=list)
    kind: str = "recast"


# model: TARGET or TARGET-nN-gG-kK; groups of two layers, n = 2, K = 1 unless it says otherwise.
def grain(numbers, target, options, label):
    return Row(f"recast-{numbers}", label, target, [f"recast:{options}"], numbers)


CURVE = [
    Row("head", "head alone", "attn", ["linear-probe"], 0, ["--epochs", "0"], "head"),
    grain(24, "attn", "grain=slot", "qkv, slot"),
    grain(48, "mlp", "grain=slot", "fc1 and fc2, slot"),
    grain(72, "attn", "grain=part", "qkv, part"),
    grain(96, "all", "grain=slot", "all, slot"),
    grain(144, "attn", "grain=block,block=192", "qkv, blocks of 192"),
    grain(216, "attn", "grain=block,block=128", "qkv, blocks of 128"),
    grain(432, "attn", "grain=head", "qkv, head"),
    grain(864, "all", "grain=block,block=128", "all, blocks of 128"),
    grain(1728, "all", "grain=block", "all, blocks of 64"),
    grain(3456, "all", "grain=block,block=32", "all, blocks of 32"),
    *(Row(f"lora-{r}", f"LoRA r {r} on qkv", "base", [f"lora:rank={r},targets=qkv"], 18432 * r, kind="lora")
      for r in (1, 2, 4, 8)),
]
BLOCK = ["recast:grain=block"]
EXTRA = [
    Row("qkv-1728", "qkv alone, blocks of 16", "attn", ["recast:grain=block,block=16"], 1728),
    Row("n4-1728", "n = 4 in groups of four, all, blocks of 128", "all-n4-g3", ["recast:grain=block,block=128"], 1728),
    Row("k2-3456", "K = 2, all, blocks of 64", "all-k2", BLOCK, 3456),
    Row("mlp-rate-0.3", "learning rate of fc1 and fc2 x 0.3", "all", ["recast:grain=block,mlp_rate=0.3"], 1728),
    Row("mlp-rate-3", "learning rate of fc1 and fc2 x 3", "all", ["recast:grain=block,mlp_rate=3"], 1728),
    Row("rate-0.01", "learning rate 0.01 for 0.03", "all", BLOCK, 1728, ["--lr", "0.01"]),
    Row("rate-0.1", "learning rate 0.1 for 0.03", "all", BLOCK, 1728, ["--lr", "0.1"]),
    Row("epochs-6", "6 epochs for 3", "all", BLOCK, 1728, ["--epochs", "6"]),
    Row("norms-300", "norm gains and biases, blocks of 64", "base", ["norm-tuning:block=64"], 300),
    Row("norms-19200", "norm gains and biases, each channel", "base", ["norm-tuning"], 19200),
    Row("mlp-1152", "fc1 and fc2 alone, blocks of 64", "mlp", BLOCK, 1152),
    Row("sparse-1728-of-3456", "1,728 of 3,456 by gradient, all, blocks of 32", "all",
        ["recast:grain=block,block=32,keep=1728"], 1728),
    Row("sparse-1728-of-6912", "1,728 of 6,912 by gradient, all, blocks of 16", "all",
        ["recast:grain=block,block=16,keep=1728"], 1728),
    Row("sparse-432-of-1728", "432 of 1,728 by gradient, all, blocks of 64", "all", ["recast:grain=block,keep=432"], 432),
    Row("recast-norms-2028", "all, blocks of 64, and norms in blocks of 64", "all", BLOCK + ["norm-tuning:block=64"],
        2028),
]
BITS = [
    Row("bits-16-8", "coefficients 16 bits, head 8", "all", ["recast:grain=block,bits=16", "linear-probe:bits=8"], 1728),
    Row("bits-8-8", "coefficients 8 bits, head 8", "all", ["recast:grain=block,bits=8", "linear-probe:bits=8"], 1728),
    Row("bits-8-4", "coefficients 8 bits, head 4", "all", ["recast:grain=block,bits=8", "linear-probe:bits=4"], 1728),
    Row("head-8", "head alone, 8 bits", "attn", ["linear-probe:bits=8"], 0, ["--epochs", "0"]),
    Row("head-4", "head alone, 4 bits", "attn", ["linear-probe:bits=4"], 0, ["--epochs", "0"]),
    Row("slot-16-4", "24 coefficients 16 bits, head 4", "attn", ["recast:bits=16", "linear-probe:bits=4"], 24),
]
SETS = {"curve": CURVE, "extra": EXTRA, "bits": BITS}
FIRST = ("head", "recast-96", "recast-1728", "lora-4")  # what the others are compared with
ALL_ROWS = {row.name: row for rows in SETS.values() for row in rows}


def chosen_rows(text):
    rows = []
    for name in text.split(","):
        if name not in SETS and name not in ALL_ROWS:
            sys.exit(f"grain_curve: no row '{name}': {', '.join([*SETS, *ALL_ROWS])}")
        rows += SETS.get(name) or [ALL_ROWS[name]]
    return rows


# ---- what is learned from -------------------------------------------------------------------------------------------


def unpack_cifar(source, folder):
    """CIFAR-100's classes of CIFAR_TASKS as folders of PNG files with train/ and test/."""
    import numpy as np
    from PIL import Image

    binary = folder / "cifar100"
    if not (binary / "test.bin").exists():
        subprocess.run([sys.executable, str(source / "unpack.py"), str(binary)], check=True)
    names = (binary / "fine_label_names.txt").read_text().split()
    for split in ("train", "test"):
        records = np.frombuffer((binary / f"{split}.bin").read_bytes(), np.uint8).reshape(-1, 3074)
        for task, classes in CIFAR_TASKS.items():
            for label in classes:
                place = folder / task / split / label
                place.mkdir(parents=True, exist_ok=True)
                for index, record in enumerate(records[records[:, 1] == names.index(label)]):
                    Image.fromarray(record[2:].reshape(3, 32, 32).transpose(1, 2, 0)).save(place / f"{index:03}.png")


def data_of(task, chosen):
    if task == "fashion":
        return FASHION
    folder = chosen.folder / "data"
    if not (folder / "unpacked").exists():
        unpack_cifar(chosen.cifar, folder)
        (folder / "unpacked").touch()
    return folder / task


def model_of(name, chosen):
    """The zoo's backbone as imported ("base"), or under templates."""
    folder = chosen.folder / "models" / name
    if (folder / "config.json").exists():
        return folder
    if name == "base":
        recast(chosen, "import", ZOO, "--arch", "vit_small_patch14_dinov2", "--out", folder)
        return folder
    target, *settings = name.split("-")
    sizes = {"n": 2, "g": 6, "k": 1} | {text[0]: int(text[1:]) for text in settings}
    recast(chosen, "mimic", model_of("base", chosen), "--target", target, "--groups", sizes["g"], "--templates",
           sizes["n"], "--sets", sizes["k"], "--out", folder)
    return folder


def recast(chosen, *words):
    command = [str(chosen.recast), *map(str, words), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}ended with status {done.returncode}")
    return json.loads(done.stdout)


# ---- learning -------------------------------------------------------------------------------------------------------


def settings_of(chosen):
    """What must be the same in all rows of a table."""
    return {"image_size": chosen.image_size, "train": chosen.train, "test": chosen.test, "test_amp": chosen.test_amp,
            "threads": chosen.threads}


def point_path(chosen, task, seed, row):
    return chosen.folder / "rows" / f"{task}.{seed}.{row.name}.json"


def learn(chosen, task, seed, row):
    model, name = model_of(row.model, chosen), f"{task}-{row.name}-{seed}"
    words = ["learn", model, "--task", name, "--data", data_of(task, chosen), "--recipe", "fast", "--seed", seed,
             "--split-seed", seed, "--image-size", chosen.image_size, "--limit-train", chosen.train, "--limit-test",
             chosen.test, "--no-test", "--force", "--threads", chosen.threads, "--out", chosen.folder / "runs" / name,
             *row.more]
    for plug in row.plugs:
        words += ["--plug", plug]
    results = recast(chosen, *words)
    if row.numbers is not None and results["coefficients"] != row.numbers:
        raise RuntimeError(f"row {row.name} trained {results['coefficients']} numbers, not {row.numbers}")
    test = recast(chosen, "eval", model, "--task", name, "--amp", chosen.test_amp, "--threads", chosen.threads)
    keys = ("coefficients", "head_numbers", "stored_bytes", "file_bytes", "kept", "candidates", "seconds", "images",
            "command", "machine")
    point = {key: results[key] for key in keys}
    point |= {"task": task, "seed": seed, "row": row.name, "settings": settings_of(chosen),
              "validation_top1": results["validation"]["top1"], "test_top1": test["top1"], "test_loss": test["loss"],
              "test_rows": test["rows"]}
    path = point_path(chosen, task, seed, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    half.write_text(json.dumps(point, indent=1) + "\n")
    os.replace(half, path)
    return point


def run(chosen):
    """The rows that others are compared with, then seed by seed, so that what is there early is an experiment."""
    todo = [(task, seed, row) for seed in chosen.seeds for row in chosen.rows for task in chosen.tasks
            if not point_path(chosen, task, seed, row).exists()]
    todo.sort(key=lambda point: point[2].name not in FIRST)
    if chosen.limit is not None:
        todo = todo[:chosen.limit]
    for task, _, row in todo:  # what points share is made before any of them
        data_of(task, chosen)
        model_of(row.model, chosen)

    def one(point):
        start = time.monotonic()
        task, seed, row = point
        made = learn(chosen, *point)
        print(f"{task} seed {seed} {row.name}: test {made['test_top1']:.4f}, {made['coefficients']} numbers, kept "
              f"{made['kept']}, {time.monotonic() - start:.0f} s", flush=True)

    with ThreadPoolExecutor(chosen.jobs) as pool:
        running = [pool.submit(one, point) for point in todo]
        try:
            for point in running:
                point.result()
        except BaseException as stop:
            pool.shutdown(cancel_futures=True)
            sys.exit(f"grain_curve: {stop or 'stopped'}")


# ---- tables and plot ------------------------------------------------------------------------------------------------


def read_points(chosen):
    """{row: {(task, seed): point}} of the settings asked for."""
    points = {}
    for path in sorted((chosen.folder / "rows").glob("*.json")):
        point = json.loads(path.read_text())
        if point["settings"] == settings_of(chosen):
            points.setdefault(point["row"], {})[(point["task"], point["seed"])] = point
    return points


def t_quantile(freedom):
    """0.975 quantile of Student's t, by bisection of the integral of its density (Simpson)."""
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))

    def share(t, parts=2000):
        width = t / parts
        density = [scale * (1 + (i * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(parts + 1)]
        return 0.5 + width / 3 * (density[0] + density[-1] + 4 * sum(density[1:-1:2]) + 2 * sum(density[2:-1:2]))

    low, high = 0.0, 200.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < 0.975 else (low, middle)
    return low


def paired(points, base):
    """Mean of the differences over the pairs that both have, and half the 95 % interval (None below two pairs)."""
    pairs = sorted(points.keys() & base.keys())
    gaps = [points[pair]["test_top1"] - base[pair]["test_top1"] for pair in pairs]
    if not gaps:
        return None
    half = t_quantile(len(gaps) - 1) * stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else None
    return mean(gaps), half, len(gaps)


def gap_text(gap):
    if gap is None:
        return "-"
    return f"{gap[0]:+.4f}" + (f" ± {gap[1]:.4f}" if gap[1] is not None else "")


def mean_of(points, key="test_top1", task=None):
    values = [point[key] for (name, _), point in points.items() if task in (None, name)]
    return mean(values) if values else None


def table(points, rows, tasks, bases):
    head = ["what trains", "numbers", "bytes stored", *tasks, "mean", "seconds",
            *(f"less {ALL_ROWS[base].label}" for base in bases)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        mine = points.get(row.name)
        if not mine:
            continue
        some = next(iter(mine.values()))
        shares = [mean_of(mine, task=task) for task in tasks]
        cells = [row.label, f"{some['coefficients']:,}", f"{some['stored_bytes']:,}",
                 *("-" if share is None else f"{share:.4f}" for share in shares), f"{mean_of(mine):.4f}",
                 f"{mean_of(mine, 'seconds'):.0f}",
                 *("" if base == row.name else gap_text(paired(mine, points.get(base, {}))) for base in bases)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(points):
    """Gain over the head alone, in points of accuracy, with the 95 % interval of the pairs, as SVG."""
    width, height, left, top, right, bottom = 760, 420, 60, 20, 20, 50
    shown = [(row, points[row.name], paired(points[row.name], points["head"])) for row in CURVE[1:] if row.name in points]
    edges = [100 * (gap[0] + side * (gap[1] or 0)) for _, _, gap in shown for side in (-1, 1)] + [0]
    low, high = math.floor(min(edges)), math.ceil(max(edges))

    def x(numbers):
        return left + (width - left - right) * (math.log10(numbers) - 1) / (math.log10(200000) - 1)

    def y(gain):
        return top + (height - top - bottom) * (high - gain) / max(high - low, 1)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
           f'font-size="12"><rect width="{width}" height="{height}" fill="white"/>']
    for gain in range(low, high + 1):
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{y(gain):.1f}" y2="{y(gain):.1f}" '
                   f'stroke="{"#888" if gain == 0 else "#ddd"}"/><text x="{left - 8}" y="{y(gain) + 4:.1f}" '
                   f'text-anchor="end">{gain:+d}</text>')
    for numbers in (10, 100, 1000, 10000, 100000):
        out.append(f'<text x="{x(numbers):.1f}" y="{height - bottom + 18}" text-anchor="middle">{numbers:,}</text>')
    out.append(f'<text x="{(left + width - right) / 2:.0f}" y="{height - 10}" text-anchor="middle">numbers a task '
               f'trains beside its head</text><text transform="translate(14 {(top + height - bottom) / 2:.0f}) '
               f'rotate(-90)" text-anchor="middle">points of test accuracy over the head alone</text>')
    for kind, colour, label in (("recast", "#0a5ea8", "RECAST, finer and finer grains"), ("lora", "#c0392b", "LoRA on qkv, r = 1, 2, 4, 8")):
        line = [(x(some(mine)["coefficients"]), gap) for row, mine, gap in shown if row.kind == kind]
        path = " ".join(f"{at:.1f},{y(100 * gap[0]):.1f}" for at, gap in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for at, gap in line:
            if gap[1] is not None:
                out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(100 * (gap[0] - gap[1])):.1f}" '
                           f'y2="{y(100 * (gap[0] + gap[1])):.1f}" stroke="{colour}" opacity="0.5"/>')
            out.append(f'<circle cx="{at:.1f}" cy="{y(100 * gap[0]):.1f}" r="4" fill="{colour}"/>')
        place = top + 16 + (18 if kind == "lora" else 0)
        out.append(f'<circle cx="{left + 16}" cy="{place - 4}" r="4" fill="{colour}"/>'
                   f'<text x="{left + 26}" y="{place}">{label}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def some(points):
    return next(iter(points.values()))


def report(chosen):
    points = read_points(chosen)
    tasks = [task for task in TASKS if any(task == name for mine in points.values() for name, _ in mine)]
    texts = []
    for name, rows in SETS.items():
        bases = ("recast-1728",) if name != "curve" else ("head", "recast-96", "lora-4")
        listed = rows if name == "curve" else [ALL_ROWS["head"], ALL_ROWS["recast-1728"], *rows]
        if any(row.name in points for row in rows):
            texts.append(f"{name}, {max(len(mine) for mine in points.values())} pairs of task and seed\n\n"
                         + table(points, listed, tasks, bases))
    print("\n\n".join(texts))
    (chosen.folder / "tables.md").write_text("\n\n".join(texts) + "\n")
    if "head" in points and len(points) > 2:
        (chosen.folder / "grain_curve.svg").write_text(plot(points))


def arguments():
    parser = argparse.ArgumentParser(prog="bench/grain_curve.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="curve", help=f"sets or names of rows (sets: {', '.join(SETS)})")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--train", type=int, default=50, help="images of each class to learn from")
    parser.add_argument("--test", type=int, default=100, help="images of each class to test on")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--test-amp", default="bf16", choices=("bf16", "fp32"), help="number format of the test")
    parser.add_argument("--jobs", type=int, default=1, help="points at a time")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each")
    parser.add_argument("--limit", type=int, help="learn so many new points at most")
    parser.add_argument("--report", action="store_true", help="learn nothing")
    parser.add_argument("--recast", type=Path, default=ROOT / "build/bin/recast")
    parser.add_argument("--cifar", type=Path, default=ROOT.parent / "shared/data/cifar100",
                        help="a folder with CIFAR-100 and its unpack.py")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/grain-curve")
    chosen = parser.parse_args()
    chosen.rows = chosen_rows(chosen.rows)
    chosen.tasks = chosen.tasks.split(",")
    chosen.seeds = [int(seed) for seed in chosen.seeds.split(",")]
    for task in chosen.tasks:
        if task not in TASKS:
            parser.error(f"no task '{task}': {', '.join(TASKS)}")
    return chosen


if __name__ == "__main__":
    options = arguments()
    if not options.report:
        run(options)
    report(options)
