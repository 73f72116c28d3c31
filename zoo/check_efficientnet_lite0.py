#!/usr/bin/env python3
"""Compares the fetched EfficientNet-Lite0 with a PyTorch run, on all photographs of a folder, from file to class.

The PyTorch run is timm's tf_efficientnet_lite0 with the fetched tensors, put in by their order (both libraries list a
network's modules as the input meets them), and timm's own transform on photographs turned upright as their cameras say,
which recast does, too. The other run is `recast import` and `recast predict`. Each photograph must get the same class,
and the logits must agree to 1e-4 of the largest.

Usage: check_efficientnet_lite0.py [--recast build/bin/recast] [--zoo build/zoo] [--photos DIR] [--json FILE]
                                   [--golden DIR]
The folder holds labels.csv with the columns path and class, the number of the photograph's class of ImageNet. Prints
the top-1 accuracy of both. Exit status 1 if a class differs or logits are too far apart. --golden writes what PyTorch
answers on four of them as a case folder for the C++ parity test (as tests/golden/make_backbones.py does;
checkpoint.safetensors is a link).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fetch_efficientnet_lite0 import RESULT_NAME

ARCH = "tf_efficientnet_lite0"
BATCH = 20
TOLERANCE = 1e-4  # of the largest logit
ROOT = Path(__file__).resolve().parent.parent


def photographs(folder):
    """(files, ImageNet classes)."""
    with open(folder / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [folder / row["path"] for row in rows], [int(row["class"]) for row in rows]


def in_pytorch(checkpoint):
    """timm's model with the fetched tensors, and its transform."""
    sys.path.insert(0, str(ROOT / "tests" / "golden"))
    import torchvision_import  # noqa: F401
    import timm
    from PIL import Image, ImageOps
    from safetensors.torch import load_file

    model = timm.create_model(ARCH, pretrained=False).eval()
    given = load_file(checkpoint)
    block = lambda name: int(name.split(".")[1]) if name.startswith("_blocks.") else None  # noqa: E731
    place = {"_expand_conv": 0, "_bn0": 1, "_depthwise_conv": 2, "_bn1": 3, "_project_conv": 4, "_bn2": 5}
    number = {"weight": 0, "bias": 1, "running_mean": 2, "running_var": 3}

    def order(name):
        parts = name.split(".")
        if block(name) is not None:
            return 1, block(name), place[parts[2]], number[parts[3]]
        outer = {"_conv_stem": (0, 0), "_bn0": (0, 1), "_conv_head": (2, 0), "_bn1": (2, 1), "_fc": (2, 2)}
        return *outer[parts[0]], 0, number[parts[1]]

    ours = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    theirs = sorted(given, key=order)
    if len(ours) != len(theirs):
        sys.exit(f"check_efficientnet_lite0: {len(theirs)} tensors, timm has {len(ours)}")
    missing = model.load_state_dict(
        {name: given[other] for name, other in zip(ours, theirs)}, strict=False).missing_keys
    if any(not name.endswith("num_batches_tracked") for name in missing):
        sys.exit(f"check_efficientnet_lite0: timm misses {missing}")
    data = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**data, is_training=False)
    return model, lambda file: transform(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))


def write_case(folder, checkpoint, model, images):
    import timm
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "checkpoint.safetensors"
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(checkpoint.resolve(), folder.resolve()))
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        logits = model(images)
    size = images.shape[-1]
    save_file({f"images.{size}": images}, folder / "images.safetensors")
    save_file({f"features.{size}": features.contiguous(), f"logits.{size}": logits}, folder / "expected.safetensors")
    case = {
        "name": folder.name, "arch": ARCH, "library": "efficientnet-pytorch", "version": timm.__version__,
        "network": "cnn", "native_size": size, "sizes": [size], "norm_eps": 1e-3, "padding": "same",
        "shortcut": "projection", "classes": 1000,
    }
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")


def in_recast(program, checkpoint, files):
    """Logits of each file."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        subprocess.run([program, "import", checkpoint, "--arch", ARCH, "--out", directory], check=True,
                       stdout=subprocess.DEVNULL)
        run = subprocess.run([program, "predict", directory, "--task", "pretrained", "--json", *files], check=True,
                             capture_output=True, text=True)
    return [prediction["logits"] for prediction in json.loads(run.stdout)["predictions"]]


def best(logits):
    return max(range(len(logits)), key=logits.__getitem__)


def main():
    shared = Path(os.environ.get("RECAST_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recast", type=Path, default=ROOT / "build" / "bin" / "recast")
    parser.add_argument("--zoo", type=Path, default=ROOT / "build" / "zoo")
    parser.add_argument("--photos", type=Path, default=shared / "data" / "photos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--golden", type=Path, metavar="DIR")
    options = parser.parse_args()
    checkpoint = options.zoo / RESULT_NAME
    if not checkpoint.exists():
        sys.exit(f"check_efficientnet_lite0: {checkpoint} is missing; run zoo/fetch_efficientnet_lite0.py first")
    if not (options.photos / "labels.csv").exists():
        print(f"check_efficientnet_lite0: nothing to compare on, {options.photos}/labels.csv is missing")
        return
    files, classes = photographs(options.photos)
    import torch

    model, pixels = in_pytorch(checkpoint)
    theirs = []
    with torch.inference_mode():
        for begin in range(0, len(files), BATCH):
            theirs += model(torch.stack([pixels(file) for file in files[begin : begin + BATCH]])).tolist()
    ours = in_recast(options.recast, checkpoint, files)

    same = sum(best(a) == best(b) for a, b in zip(ours, theirs))
    largest = max(abs(value) for row in theirs for value in row)
    difference = max(abs(a - b) for left, right in zip(ours, theirs) for a, b in zip(left, right))
    right = [sum(best(row) == truth for row, truth in zip(rows, classes)) for rows in (ours, theirs)]
    figures = {"photographs": len(files), "same_class": same, "top1_recast": right[0] / len(files),
               "top1_pytorch": right[1] / len(files), "largest_logit": largest, "largest_difference": difference}
    print(f"{len(files)} photographs: {same} get the same class as from PyTorch; top-1 accuracy "
          f"{right[0]}/{len(files)} = {figures['top1_recast']:.3f} here, "
          f"{right[1]}/{len(files)} = {figures['top1_pytorch']:.3f} there; "
          f"logits differ by at most {difference:.2e} = {difference / largest:.1e} of the largest")
    if options.golden:
        few = files[:: max(1, len(files) // 4)][:4]
        write_case(options.golden, checkpoint, model, torch.stack([pixels(file) for file in few]))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if same != len(files) or difference > TOLERANCE * largest:
        sys.exit("check_efficientnet_lite0: recast does not answer as PyTorch does")


if __name__ == "__main__":
    main()
