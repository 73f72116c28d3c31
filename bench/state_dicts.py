#!/usr/bin/env python3
"""Going from one adapted ViT to another as PyTorch does it: load_state_dict() of all weights, from memory and from a
safetensors file. The counterpart of switch_bench: --out takes the logits of each task, otherwise times are taken.

Prints one JSON document: memory_seconds, file_seconds, state_bytes. Called by bench/run.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "golden"))

import torch
from safetensors.torch import load_file, save_file

import contenders


def effective_weights(checkpoint, model_directory, start, dtype):
    """The state dict of a plain timm ViT with the weights that a task's coefficients make."""
    _, model = contenders.torch_recast(checkpoint, model_directory, start)
    tensors = {name: tensor for name, tensor in model.state_dict().items()
               if not name.endswith((".templates", ".coefficients"))}
    for name, module in model.named_modules():
        if isinstance(module, contenders.TemplateLinear):
            tensors[f"{name}.weight"] = module.weight()
    return {name: tensor.detach().to(dtype).clone().contiguous() for name, tensor in tensors.items()}


def read_task(numbers, task):
    """What the task's model starts from, of a file that write_tasks reads."""
    classes = numbers["classes"].tolist()
    start = {name: tensor[task] for name, tensor in numbers.items() if name.startswith("c@")}
    return start | {name: numbers[name].split(classes)[task] for name in ("weight", "bias")}


def timed(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("checkpoint", "model", "numbers", "batch", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
    numbers, states, files = load_file(arguments.numbers), [], []
    for task in range(arguments.tasks):
        states.append(effective_weights(arguments.checkpoint, arguments.model, read_task(numbers, task), dtype))
        files.append(arguments.folder / f"state-{task}.safetensors")
        save_file(states[-1], files[-1])
    architecture = contenders.read_config(arguments.model)["architecture"]
    model = contenders.timm_backbone(architecture, arguments.checkpoint, len(states[0]["head.bias"])).to(dtype).eval()
    if arguments.out:
        image, logits = load_file(arguments.batch)["input"].to(dtype), {}
        for task, state in enumerate(states):
            model.load_state_dict(state)
            with torch.inference_mode():
                logits[f"task-{task:07}"] = model(image).float()
        save_file(logits, arguments.out)
        return print(json.dumps({"tasks": list(logits)}))
    turns = [repetition % arguments.tasks for repetition in range(arguments.repeats)]
    print(json.dumps({"memory_seconds": [timed(lambda: model.load_state_dict(states[task])) for task in turns],
                      "file_seconds": [timed(lambda: model.load_state_dict(load_file(files[task]))) for task in turns],
                      "state_bytes": files[0].stat().st_size}))


if __name__ == "__main__":
    main()
