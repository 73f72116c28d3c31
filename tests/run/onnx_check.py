#!/usr/bin/env python3
"""Checks ONNX models by onnx's own checker and runs them in onnxruntime.

Usage: onnx_check.py MODEL CASE [MODEL CASE ...]
CASE is a safetensors file: "feed.NAME", what the input NAME gets, and "want.NAME", what the output NAME must be, to 1e-4
of its largest number. Prints a line of JSON for each pair: inputs, outputs, metadata, operators, difference. Exit
status 1 where a difference is larger, or a shape another.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file


def check(path, case):
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tensors = load_file(case)
    feed = {name[5:]: value for name, value in tensors.items() if name.startswith("feed.")}
    worst = 0.0
    for name in (name[5:] for name in tensors if name.startswith("want.")):
        want, got = tensors["want." + name], session.run([name], feed)[0]
        if want.shape != got.shape:
            print(f"{path}: {name} is {got.shape}, expected {want.shape}")
            return False
        worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
    print(
        json.dumps(
            {
                "model": path,
                "difference": worst,
                "inputs": {port.name: port.shape for port in session.get_inputs()},
                "outputs": {port.name: port.shape for port in session.get_outputs()},
                "metadata": {entry.key: entry.value for entry in model.metadata_props},
                "operators": sorted({node.op_type for node in model.graph.node}),
                "initialisers": sorted(tensor.name for tensor in model.graph.initializer),
            }
        )
    )
    return worst <= 1e-4


def main():
    words = sys.argv[1:]
    if not words or len(words) % 2:
        sys.exit(__doc__)
    good = [check(model, case) for model, case in zip(words[::2], words[1::2])]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
