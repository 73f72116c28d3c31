"""LoRA as modules of PyTorch, written down independently of the C++: every update is two layers beside a frozen one, in
double, and autograd differentiates.

question: per case ID: ID.w (weight), ID.x (input), ID.g (dL/dy), and per part P of the slot ID.P.a, ID.P.b;
          metadata ID = JSON {"stride": 0 for a linear layer, "parts": {P: {"begin", "end", "scale"}}}.
answer:   ID.y, ID.x_gradient, and ID.P.a_gradient, ID.P.b_gradient."""
import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def layer(weight, stride):
    """A frozen or trained layer of torch.nn with this weight."""
    if stride:
        made = torch.nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False, dtype=torch.double,
                               stride=stride if weight.shape[2] > 1 else 1)
    else:
        made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.double)
    made.weight = torch.nn.Parameter(weight.double())
    return made


def main(question, answer):
    out = {}
    with safe_open(question, "pt") as file:
        for name, text in file.metadata().items():
            case = json.loads(text)
            x = file.get_tensor(f"{name}.x").double().requires_grad_()
            y = layer(file.get_tensor(f"{name}.w"), case["stride"])(x)
            rows = 1 if case["stride"] else y.dim() - 1
            pairs = {}
            for part, place in case["parts"].items():
                down, up = (layer(file.get_tensor(f"{name}.{part}.{which}"), case["stride"]) for which in "ab")
                pairs[part] = down, up
                before, rest = y.narrow(rows, 0, place["begin"]), y.shape[rows] - place["end"]
                here = y.narrow(rows, place["begin"], place["end"] - place["begin"])
                y = torch.cat([before, here + place["scale"] * up(down(x)), y.narrow(rows, place["end"], rest)], rows)
            (y * file.get_tensor(f"{name}.g").double()).sum().backward()
            out[f"{name}.y"], out[f"{name}.x_gradient"] = y.detach().contiguous(), x.grad
            for part, (down, up) in pairs.items():
                out[f"{name}.{part}.a_gradient"], out[f"{name}.{part}.b_gradient"] = down.weight.grad, up.weight.grad
    save_file(out, answer)


main(*sys.argv[1:])
