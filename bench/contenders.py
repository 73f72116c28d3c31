"""The models that recast is compared with, over timm's ViT or ResNet, as PyTorch modules.

`torch-recast` RECAST as a PyTorch user writes it: a slot's weight is the sum of coefficients times templates, made anew
               in every forward call, then F.linear or F.conv2d; bf16 is torch.autocast. A convolutional network and its
               input lie in channels_last.
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


class TemplateLayer(nn.Module):
    """A layer with W = (1/K) sum_k sum_i c[k, i] T[i] (RECAST, arXiv:2411.16870, section 3)."""

    def __init__(self, layer, templates, coefficients):
        super().__init__()
        self.templates = templates  # [n, out, in, ...], shared by the slots of a group; frozen
        self.coefficients = nn.Parameter(coefficients)  # [K, n]
        self.bias = layer.bias
        self.kept = None

    def made(self):
        mean = self.coefficients.mean(0)
        return (mean.view(-1, *[1] * (self.templates.dim() - 1)) * self.templates).sum(0)

    def keep(self, dtype):
        """For inference of one task alone: the weight is made once."""
        with torch.no_grad():
            self.kept = self.made().to(dtype)

    def weight(self):
        return self.made() if self.kept is None else self.kept


class TemplateLinear(TemplateLayer):
    def forward(self, x):
        return F.linear(x, self.weight(), self.bias)


class TemplateConv2d(TemplateLayer):
    def __init__(self, layer, templates, coefficients):
        super().__init__(layer, templates, coefficients)
        self.stride, self.padding = layer.stride, layer.padding

    def keep(self, dtype):
        super().keep(dtype)
        self.kept = self.kept.contiguous(memory_format=torch.channels_last)

    def forward(self, x):
        return F.conv2d(x, self.weight(), self.bias, self.stride, self.padding)


TEMPLATED = {nn.Linear: TemplateLinear, nn.Conv2d: TemplateConv2d}


def read_config(model_directory):
    return json.loads((Path(model_directory) / "config.json").read_text())


def timm_backbone(architecture, checkpoint, classes):
    """The frozen backbone with its trainable head; the checkpoint has timm's names and no head."""
    model = timm.create_model(architecture, num_classes=classes)
    missing, unexpected = model.load_state_dict(load_file(checkpoint), strict=False)
    head = model.default_cfg["classifier"]
    assert set(missing) == {f"{head}.weight", f"{head}.bias"} and not unexpected, (missing, unexpected)
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
    config = read_config(model_directory)
    model = timm_backbone(config["architecture"], checkpoint, len(start["bias"]))
    head = model.get_classifier()
    set_head(head, start)
    bank = load_file(Path(model_directory) / "bank.safetensors")
    named = []
    for group in config["bank"]["members"]:
        templates = bank[f"{group['name']}.templates"]
        for slot in group["slots"]:
            parent, _, leaf = slot.rpartition(".")
            parent = model.get_submodule(parent)
            layer = getattr(parent, leaf)
            templated = TEMPLATED[type(layer)](layer, templates, start[f"c@{slot}"])
            setattr(parent, leaf, templated)
            named.append((f"c@{slot}", templated.coefficients))
    if "cnn" in config:
        model = model.to(memory_format=torch.channels_last)
    return named + [("weight", head.weight), ("bias", head.bias)], model


def peft_lora(checkpoint, model_directory, start):
    from peft import LoraConfig, get_peft_model

    model = timm_backbone(read_config(model_directory)["architecture"], checkpoint, len(start["bias"]))
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
                if isinstance(module, TemplateLayer):
                    module.keep(dtype)
        return named, model
    named, model = peft_lora(checkpoint, model_directory, start)
    if kind.endswith("-merged"):
        model = model.merge_and_unload()
    return named, model
