#!/usr/bin/env python3
"""One repetition of one contender in PyTorch, in a process of its own: the counterpart of step_bench.

Prints one JSON document: losses, seconds of every step, loaded_bytes (memory before the first), peak_bytes (VmHWM).
Called by bench/run.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "golden"))

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from contenders import build, read_config
from measure import memory_bytes

OPSET = 17  # the first with a layer norm of its own
RATE, DECAY, CLIP = 2e-3, 1e-6, 1.0  # as step_bench: AdamW, gradient norm 1


class Contender:
    def __init__(self, arguments):
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
        start = load_file(arguments.start)
        kind = arguments.kind.removesuffix("-compiled")
        self.named, self.model = build(kind, arguments.checkpoint, arguments.model, start, self.dtype)
        if kind != arguments.kind:
            self.model = torch.compile(self.model)  # within the first step, which warms up
        batch = load_file(arguments.batch)
        self.input, self.label = batch["input"], batch["label"]
        if "cnn" in read_config(arguments.model):
            self.input = self.input.contiguous(memory_format=torch.channels_last)

    def loss(self):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            self.logits = self.model(self.input)
        return F.cross_entropy(self.logits.float(), self.label)

    def train(self):
        """The norms of a frozen backbone keep their running statistics."""
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def learn(self, steps):
        self.train()
        parameters = [parameter for _, parameter in self.named]
        optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
        losses, seconds = [], []
        for _ in range(steps):
            begin = time.perf_counter()
            loss = self.loss()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.item())
            seconds.append(time.perf_counter() - begin)
        return losses, seconds

    @torch.no_grad()
    def infer(self, steps):
        self.model.eval()
        losses, seconds = [], []
        for _ in range(steps):
            begin = time.perf_counter()
            losses.append(self.loss().item())
            seconds.append(time.perf_counter() - begin)
        return losses, seconds

    def export(self, out):
        """The network as it stands, for batches of this size."""
        self.model.eval()
        warnings.simplefilter("ignore")  # of conditions that hold for any input, and of a successor: it needs onnxscript
        torch.onnx.export(self.model, (self.input,), out, dynamo=False, opset_version=OPSET, input_names=["input"],
                          output_names=["logits"])
        return [], []

    def gradients(self, out):
        self.train()
        loss = self.loss()
        loss.backward()
        tensors = {f"gradient.{name}": parameter.grad for name, parameter in self.named}
        save_file({**tensors, "logits": self.logits.detach().float().contiguous()}, out)
        return [loss.item()], []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["learn", "infer", "gradients", "export"])
    parser.add_argument("--kind", required=True)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    for name in ("checkpoint", "model", "start", "batch"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    contender = Contender(arguments)
    loaded = memory_bytes("VmRSS")
    work = arguments.out if arguments.what in ("gradients", "export") else arguments.steps
    losses, seconds = getattr(contender, arguments.what)(work)
    print(json.dumps({"losses": losses, "seconds": seconds, "loaded_bytes": loaded,
                      "peak_bytes": memory_bytes("VmHWM")}))


if __name__ == "__main__":
    main()
