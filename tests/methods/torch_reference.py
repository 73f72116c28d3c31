"""What PyTorch's own optimiser and schedule do.

adamw:     p, q and gradients p.STEP, q.STEP; metadata rate, beta1, beta2, eps, decay (of p; q has none).
           answer: p and q after each step.
one_cycle: metadata steps, warm, div, final_div. answer: factors [steps] for a peak of 1."""
import sys
import warnings

import torch
from safetensors import safe_open
from safetensors.torch import save_file

warnings.simplefilter("ignore")


def adamw(file, meta):
    p, q = (torch.nn.Parameter(file.get_tensor(name)) for name in "pq")
    optimiser = torch.optim.AdamW(
        [{"params": [p], "weight_decay": float(meta["decay"])}, {"params": [q], "weight_decay": 0.0}],
        lr=float(meta["rate"]), betas=(float(meta["beta1"]), float(meta["beta2"])), eps=float(meta["eps"]))
    out = {}
    for step in range(int(meta["steps"])):
        p.grad, q.grad = file.get_tensor(f"p.{step}"), file.get_tensor(f"q.{step}")
        optimiser.step()
        out[f"p.{step}"], out[f"q.{step}"] = p.detach().clone(), q.detach().clone()
    return out


def one_cycle(meta):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    steps = int(meta["steps"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1.0, total_steps=steps, pct_start=float(meta["warm"]), div_factor=float(meta["div"]),
        final_div_factor=float(meta["final_div"]), cycle_momentum=False)
    factors = []
    for step in range(steps):
        factors.append(schedule.get_last_lr()[0])
        if step + 1 < steps:
            schedule.step()
    return {"factors": torch.tensor(factors, dtype=torch.float64)}


with safe_open(sys.argv[1], "pt") as file:
    meta = file.metadata()
    save_file(adamw(file, meta) if meta["what"] == "adamw" else one_cycle(meta), sys.argv[2])
