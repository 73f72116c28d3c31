"""The paper's two solvers, written down independently of the C++ with PyTorch's modules, optimiser and schedules.

question: per group g: W.g [L, P], T.g [n, P], C.g [L, K, n] (gradient) or E.g.0 .. E.g.5, weight and bias of three
          layers (encoder); noise.g [steps + 1, L, K, n] (gradient); metadata what, groups, steps, rate, drop, factor.g.
answer:   losses [steps + 1], one before each step and one after the last; T.g, C.g after the last step; best.T.g,
          best.C.g: those of the least loss."""
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


def loss_of(weights, templates, coefficients, factor):
    rebuilt = torch.einsum("lkn,np->lp", coefficients, templates) / coefficients.shape[1]
    return factor * sum(F.smooth_l1_loss(new, old) for new, old in zip(rebuilt, weights))


class GradientGroup:
    def __init__(self, file, meta, g):
        self.weights, self.noise = file.get_tensor(f"W.{g}"), file.get_tensor(f"noise.{g}")
        self.templates = nn.Parameter(file.get_tensor(f"T.{g}").clone())
        self.own = nn.Parameter(file.get_tensor(f"C.{g}").clone())
        self.factor = float(meta[f"factor.{g}"])

    def params(self):
        return [self.templates, self.own]

    def coefficients(self):
        return self.own

    def loss(self, step):
        return loss_of(self.weights, self.templates, self.own + self.noise[step], self.factor)


class EncoderGroup:
    def __init__(self, file, meta, g):
        self.weights = file.get_tensor(f"W.{g}")
        self.templates = nn.Parameter(file.get_tensor(f"T.{g}").clone())
        layers = []
        for i in range(3):
            weight, bias = file.get_tensor(f"E.{g}.{2 * i}"), file.get_tensor(f"E.{g}.{2 * i + 1}")
            layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
            layer.weight.data.copy_(weight)
            layer.bias.data.copy_(bias)
            layers += [layer, nn.LeakyReLU(0.01)]
        self.encoder = nn.Sequential(*layers[:-1])

    def params(self):
        return [self.templates, *self.encoder.parameters()]

    def coefficients(self):
        return self.encoder(self.weights).view(len(self.weights), -1, len(self.templates))

    def loss(self, step):
        return loss_of(self.weights, self.templates, self.coefficients(), 1.0)


def run(groups, meta):
    gradient, steps, rate = meta["what"] == "gradient", int(meta["steps"]), float(meta["rate"])
    params = [param for group in groups for param in group.params()]
    optimiser = torch.optim.RMSprop(params, lr=rate)
    schedule = (torch.optim.lr_scheduler.StepLR(optimiser, int(meta["drop"]), 0.1) if gradient
                else torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps))
    losses, best, kept = [], float("inf"), None
    for step in range(steps + 1):
        loss = sum(group.loss(step) for group in groups)
        losses.append(loss.item())
        if losses[-1] < best:
            best = losses[-1]
            kept = [(group.templates.detach().clone(), group.coefficients().detach().clone()) for group in groups]
        if step == steps:
            break
        optimiser.zero_grad()
        loss.backward()
        if gradient:
            nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()
        schedule.step()
    out = {"losses": torch.tensor(losses, dtype=torch.float64)}
    for g, (group, (templates, coefficients)) in enumerate(zip(groups, kept)):
        out[f"T.{g}"], out[f"C.{g}"] = group.templates.detach(), group.coefficients().detach().clone()
        out[f"best.T.{g}"], out[f"best.C.{g}"] = templates, coefficients
    return {name: tensor.contiguous() for name, tensor in out.items()}


with safe_open(sys.argv[1], "pt") as file:
    meta = file.metadata()
    kind = GradientGroup if meta["what"] == "gradient" else EncoderGroup
    save_file(run([kind(file, meta, g) for g in range(int(meta["groups"]))], meta), sys.argv[2])
