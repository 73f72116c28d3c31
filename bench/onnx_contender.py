#!/usr/bin/env python3
"""One repetition of inference in ONNX Runtime, in a process without torch: the counterpart of contender.py.

Prints one JSON document: losses, seconds of every step, loaded_bytes (memory before the first), peak_bytes (VmHWM).
Called by bench/run.
"""

import argparse
import json
import time

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

from measure import memory_bytes


def open_graph(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as OMP_WAIT_POLICY=passive
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def cross_entropy(logits, label):
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(label)), label]).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("network", "batch"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    arguments = parser.parse_args()
    batch = load_file(arguments.batch)
    session = open_graph(arguments.network, arguments.threads)
    loaded = memory_bytes("VmRSS")
    losses, seconds = [], []
    for _ in range(arguments.steps):
        begin = time.perf_counter()
        logits, = session.run(["logits"], {"input": batch["input"]})
        losses.append(cross_entropy(logits, batch["label"]))
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"losses": losses, "seconds": seconds, "loaded_bytes": loaded,
                      "peak_bytes": memory_bytes("VmHWM")}))


if __name__ == "__main__":
    main()
