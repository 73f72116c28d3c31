"""The models that recast is compared with, over timm's ViT, as PyTorch modules.

`torch-recast` RECAST as a PyTorch user writes it: a slot's weight is the sum of coefficients times templates, made anew
               in every forward call, then F.linear; bf16 is torch.autocast.
`peft-lora`    Hugging Face PEFT, LoRA of rank 4 on qkv. Not merged, as it serves several adapters at a time.

Both carry the numbers of one model directory written by `recast mimic` and of one file of starting numbers, so what
they compute can be compared with what recast computes.
"""

import json
from pathlib import Path

import torch
import torchvision_import  # noqa: F401  from tests/golden, before timm and peft
import timm
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

RANK = 4


class TemplateLinear(nn.Module):
    """y = x W^T + b with W = (1/K) sum_k sum_i c[k, i] T[i] (RECAST, arXiv:2411.16870, section 3)."""

    def __init__(self, templates, coefficients, bias):
        super().__init__()
        self.templates = templates  # [n, out, in], shared by the slots of a group; frozen
        self.coefficients = nn.Parameter(coefficients)  # [K, n]
        self.bias = bias
        self.kept = None

    def weight(self):
        mean = self.coefficients.mean(0)
        return (mean[:, None, None] * self.templates).sum(0)

    def keep(self, dtype):
        """For inference of one task alone: the weight is made once."""
        with torch.no_grad():
            self.kept = self.weight().to(dtype)

    def forward(self, x):
        return F.linear(x, self.weight() if self.kept is None else self.kept, self.bias)


def timm_vit(checkpoint, classes):
    """The frozen backbone with its trainable head; the checkpoint has timm's names and no head."""
    model = timm.create_model("vit_small_patch16_224", num_classes=classes)
    missing, unexpected = model.load_state_dict(load_file(checkpoint), strict=False)
    assert set(missing) == {"head.weight", "head.bias"} and not unexpected, (missing, unexpected)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def set_head(head, start):
    with torch.no_grad():
        head.weight.copy_(start["weight"])
        head.bias.copy_(start["bias"])
    for parameter in head.parameters():
        parameter.requires_grad_(True)


def torch_recast(checkpoint, model_directory, start):
    """[(name as recast calls it, parameter)], model."""
    model = timm_vit(checkpoint, len(start["bias"]))
    set_head(model.head, start)
    bank = load_file(Path(model_directory) / "bank.safetensors")
    config = json.loads((Path(model_directory) / "config.json").read_text())
    named = []
    for group in config["bank"]["members"]:
        templates = bank[f"{group['name']}.templates"]
        for slot in group["slots"]:
            parent, _, leaf = slot.rpartition(".")
            parent = model.get_submodule(parent)
            linear = TemplateLinear(templates, start[f"c@{slot}"], getattr(parent, leaf).bias)
            setattr(parent, leaf, linear)
            named.append((f"c@{slot}", linear.coefficients))
    return named + [("weight", model.head.weight), ("bias", model.head.bias)], model


def peft_lora(checkpoint, start):
    from peft import LoraConfig, get_peft_model

    model = timm_vit(checkpoint, len(start["bias"]))
    set_head(model.head, start)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["qkv"], modules_to_save=["head"])
    model = get_peft_model(model, config)
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad], model


def build(kind, checkpoint, model_directory, start, dtype):
    """Names: torch-recast, torch-recast-kept (weights made once), peft-lora, peft-lora-merged."""
    if kind.startswith("torch-recast"):
        named, model = torch_recast(checkpoint, model_directory, start)
        if kind.endswith("-kept"):
            for module in model.modules():
                if isinstance(module, TemplateLinear):
                    module.keep(dtype)
        return named, model
    named, model = peft_lora(checkpoint, start)
    if kind.endswith("-merged"):
        model = model.merge_and_unload()
    return named, model
