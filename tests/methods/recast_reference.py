"""RECAST's weight and coefficient gradients, written down independently of the C++: every row (or column) of a slot is
added up on its own, in double, and autograd differentiates.

question: SLOT|GRAIN.templates [n, out, in], .coefficients [K, B, n], .gradient [out, in] (dL/dW);
          metadata "SLOT|GRAIN" = "rows LENGTH" or "columns LENGTH".
answer:   the same names with .weight and .coefficient_gradient."""
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def weight(templates, coefficients, side, length):
    count = templates.shape[1] if side == "rows" else templates.shape[2]
    pieces = []
    for place in range(count):
        piece = 0
        for k in range(coefficients.shape[0]):
            for i in range(templates.shape[0]):
                line = templates[i, place, :] if side == "rows" else templates[i, :, place]
                piece = piece + coefficients[k, place // length, i] * line
        pieces.append(piece / coefficients.shape[0])
    return torch.stack(pieces, dim=0 if side == "rows" else 1)


def main(question, answer):
    out = {}
    with safe_open(question, "pt") as file:
        for name, text in file.metadata().items():
            side, length = text.split()
            templates = file.get_tensor(name + ".templates").double()
            coefficients = file.get_tensor(name + ".coefficients").double().requires_grad_()
            made = weight(templates, coefficients, side, int(length))
            (made * file.get_tensor(name + ".gradient").double()).sum().backward()
            out[name + ".weight"] = made.detach().contiguous()
            out[name + ".coefficient_gradient"] = coefficients.grad.contiguous()
    save_file(out, answer)


main(*sys.argv[1:])
