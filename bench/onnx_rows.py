#!/usr/bin/env python3
"""What does a task for each row cost? Times two exported graphs of one model in onnxruntime: one task for a batch, and
`--per-row`, where every row is fed the same task, so that both must give the same logits.

Usage: onnx_rows.py PLAIN.onnx ROWS.onnx INPUTS.safetensors [--batches 1,8,32] [--threads 2] [--repeats 5]
Prints a line of JSON a batch size: milliseconds an image (the least of the repeats, after one run to warm up), their
ratio, and the largest difference of the logits, relative to the largest logit. Exit status 1 if that exceeds 1e-4.
"""

import argparse
import json
import sys
import time

import numpy as np
import onnxruntime
from safetensors.numpy import load_file


def open_graph(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def milliseconds(session, feed, repeats):
    session.run(None, feed)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plain")
    parser.add_argument("rows")
    parser.add_argument("inputs")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    plain, rows = (open_graph(path, chosen.threads) for path in (chosen.plain, chosen.rows))
    task = load_file(chosen.inputs)
    side = plain.get_inputs()[0].shape[2]
    worst = 0.0
    for batch in map(int, chosen.batches.split(",")):
        image = np.random.default_rng(0).standard_normal((batch, 3, side, side)).astype(np.float32)
        one = {**task, "image": image}
        many = {name: np.repeat(value[None], batch, 0) for name, value in task.items()} | {"image": image}
        want, got = plain.run(["logits"], one)[0], rows.run(["logits"], many)[0]
        difference = float(np.abs(want - got).max() / np.abs(want).max())
        worst = max(worst, difference)
        a, b = (milliseconds(*pair, chosen.repeats) / batch for pair in ((plain, one), (rows, many)))
        print(json.dumps({"batch": batch, "side_px": side, "plain_ms": round(a, 2), "rows_ms": round(b, 2),
                          "ratio": round(b / a, 2), "difference": difference}), flush=True)
    sys.exit(0 if worst <= 1e-4 else 1)


if __name__ == "__main__":
    main()
