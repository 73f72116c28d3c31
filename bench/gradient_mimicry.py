#!/usr/bin/env python3
"""Neural Mimicry as the RECAST paper does it, by gradient descent (arXiv:2411.16870, section 3.2 and appendix).

Templates start Kaiming-normal, coefficients orthogonal; all banks are trained together on SmoothL1 between rebuilt and
given weight (times 2 for each slot of a ViT; 3.5 for a block's first convolution, 2.5 for the others), with normal
noise of std 1e-4 on the coefficients; RMSprop at 0.1, times 0.1 every 200 of 1000 steps (with convolutions 0.2, every
500 of 3000), gradient norm clipped to 1; the best step is kept. It stops early where the relative error of every slot
is at most --level. Prints {seconds, steps, sampled, reached, relative_error: of all slots together, peak_bytes}.
Called by bench/run.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

STEPS, RATE, NOISE, SLOT_FACTOR = 1000, 0.1, 1e-4, 2.0
KERNEL_STEPS, KERNEL_RATE, FIRST_FACTOR, KERNEL_FACTOR = 3000, 0.2, 3.5, 2.5
LOOK_EVERY = 20  # steps between two looks at the error


class Bank(nn.Module):
    def __init__(self, weights, templates, sets, factor, shape):
        super().__init__()
        self.weights, self.factor, self.shape = weights, factor, shape  # [L, out, all else]
        drawn = torch.stack([nn.init.kaiming_normal_(torch.empty(shape)) for _ in range(templates)])
        self.templates = nn.Parameter(drawn.flatten(2))
        self.coefficients = nn.Parameter(nn.init.orthogonal_(torch.empty(len(weights), sets, templates)))

    def rebuilt(self, noise):
        coefficients = self.coefficients
        if noise:
            coefficients = coefficients + NOISE * torch.randn_like(coefficients)
        return torch.einsum("ln,noi->loi", coefficients.mean(1), self.templates)

    def loss(self):
        rebuilt = self.rebuilt(noise=True)
        return self.factor * sum(F.smooth_l1_loss(new, old) for new, old in zip(rebuilt, self.weights))

    @torch.no_grad()
    def squares(self):
        """Of what is left, of what was given."""
        left = (self.rebuilt(noise=False) - self.weights).double()
        return left.square().sum().item(), self.weights.double().square().sum().item()

    @torch.no_grad()
    def worst_error(self):
        difference = (self.rebuilt(noise=False) - self.weights).flatten(1).norm(dim=1)
        return (difference / self.weights.flatten(1).norm(dim=1)).max().item()


def solve(banks, level, steps, rate, drop):
    parameters = [parameter for bank in banks for parameter in bank.parameters()]
    optimiser = torch.optim.RMSprop(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, drop, 0.1)
    best, best_state, begin = float("inf"), None, time.perf_counter()
    for step in range(1, steps + 1):
        loss = sum(bank.loss() for bank in banks)
        if loss.item() < best:
            best, best_state = loss.item(), [parameter.detach().clone() for parameter in parameters]
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % LOOK_EVERY == 0 and max(bank.worst_error() for bank in banks) <= level:
            break
    else:
        with torch.no_grad():
            for parameter, kept in zip(parameters, best_state):
                parameter.copy_(kept)
    return time.perf_counter() - begin, step


def banks_of(base, model):
    """The groups of a model directory, over the weights that it was made from."""
    given = load_file(base / "backbone.safetensors")
    bank = json.loads((model / "config.json").read_text())["bank"]
    for group in bank["members"]:
        weights = torch.stack([given[f"{slot}.weight"] for slot in group["slots"]])
        of_kernel = FIRST_FACTOR if group["slots"][0].endswith("conv1") else KERNEL_FACTOR
        factor = SLOT_FACTOR if weights.dim() == 3 else of_kernel
        yield Bank(weights.flatten(2), bank["templates"], bank["sets"], factor, weights.shape[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="model directory as imported")
    parser.add_argument("--model", type=Path, required=True, help="the same with banks: which slots share one")
    parser.add_argument("--level", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=0, help="default: the paper's")
    parser.add_argument("--sample", type=int, default=0, help="run so many steps only and scale the time up")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(42)
    banks = list(banks_of(arguments.base, arguments.model))
    kernels = any(len(bank.shape) == 4 for bank in banks)
    steps = arguments.steps or (KERNEL_STEPS if kernels else STEPS)
    run = min(arguments.sample or steps, steps)
    seconds, done = solve(banks, arguments.level, run, KERNEL_RATE if kernels else RATE, steps // (6 if kernels else 5))
    if run < steps:
        seconds *= steps / done
    worst = max(bank.worst_error() for bank in banks)
    left, given = map(sum, zip(*(bank.squares() for bank in banks)))
    peak = next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmHWM:"))
    print(json.dumps({"seconds": [seconds], "steps": done, "sampled": run < steps, "reached": worst <= arguments.level,
                      "relative_error": (left / given) ** 0.5, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
