#!/usr/bin/env python3
"""Builds backbones with timm, transformers and torchvision and writes what they answer, for the parity tests in C++.

Every parameter is drawn so that it matters: matrices with std 0.05, biases and norm gains with std 0.2, LayerScale
uniform in 0.5 .. 1.5, tokens and positions with std 0.2; kernels of convolutional networks with the std that keeps
activations of one size, gains and variances of batch norms uniform in 0.5 .. 1.5, their means with std 0.2. Each comes
from a generator seeded by its own name, so a case is the same on every run and independent of the library's
initialisation. Nothing is downloaded.

With gains around 0 the class token sees little of the patches (shifting the position grid moves DINOv2's features by
1e-4 of the largest), with gains around 1 it sees a hundred times more; so two cases come with both. In none does the
bias of k matter: it adds the same to all scores of a query, and softmax drops it.

One folder per case:
  checkpoint.safetensors   parameters under the names that the library's users find in published checkpoints
  images.safetensors       "images.S" [2, 3, S, S] fp32, normalised pixels, for every size S of the case
  expected.safetensors     "features.S" [2, D]: the class token after the last norm, or the average of the last map;
                           "logits.S" [2, 7] with a classifier
  case.json                what the case is; see describe()

Usage: make_backbones.py OUT_DIR [--only NAME]... [--list]
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
import torchvision_import  # noqa: F401  before timm and transformers
from cifar_resnet import CifarResNet
from safetensors.torch import save_file

CLASSES = 7
SHAPES = {
    "tiny": dict(hidden_size=192, num_attention_heads=3, intermediate_size=768),
    "small": dict(hidden_size=384, num_attention_heads=6, intermediate_size=1536),
    "base": dict(hidden_size=768, num_attention_heads=12, intermediate_size=3072),
}


@dataclass
class Case:
    arch: str                              # timm's architecture name
    library: str                           # whose names and whose arithmetic
    build: Callable[[], torch.nn.Module]
    sizes: tuple[int, ...]                 # native size first
    pos_interpolation: str = ""            # what the library does with the position grid at another size
    classes: int = 0
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    gain_mean: float = 0.0                 # norm gains are drawn around it
    network: str = "vit"                   # | cnn
    padding: str = "symmetric"             # of a convolutional network
    shortcut: str = "projection"


def timm_model(arch, **options):
    import timm

    return timm.create_model(arch, pretrained=False, dynamic_img_size=True, **options)


def hf_model(kind, shape, image_px, patch_px, **options):
    import transformers

    config = getattr(transformers, kind[1])(
        image_size=image_px, patch_size=patch_px, **SHAPES[shape], **options)
    return getattr(transformers, kind[0])(config)


def hf_resnet(**options):
    import transformers

    return transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=CLASSES, **options))


def torchvision_model(name):
    import torchvision

    return getattr(torchvision.models, name)(num_classes=CLASSES)


def cnn(arch, library, build, sizes, **options):
    return Case(arch, library, build, sizes, **{"classes": CLASSES, "norm_eps": 1e-5, "network": "cnn"} | options)


def timm_cnn(arch, classes=CLASSES):
    import timm

    return timm.create_model(arch, pretrained=False, num_classes=classes)


def as_efficientnet_pytorch(name):
    """What efficientnet_pytorch calls a tensor of timm's EfficientNet-Lite0."""
    repeats = (1, 2, 2, 3, 3, 4, 1)
    parts = name.split(".")
    if parts[0] != "blocks":
        outer = {
            "conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
        return ".".join([outer[parts[0]], *parts[1:]])
    block = sum(repeats[: int(parts[1])]) + int(parts[2])
    inner = (
        {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"} if parts[1] == "0" else
        {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
         "conv_pwl": "_project_conv", "bn3": "_bn2"})
    return ".".join(["_blocks", str(block), inner[parts[3]], *parts[4:]])


VIT, VIT_CLASSIFIER, DINOV2, DINOV2_REGISTERS = (
    ("ViTModel", "ViTConfig"), ("ViTForImageClassification", "ViTConfig"), ("Dinov2Model", "Dinov2Config"),
    ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig"))
TI16, S16, B16 = "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224"
LITE0 = "efficientnet_lite0"
S14, S14_REG = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"

CASES = {
    "timm_vit_tiny": Case(
        TI16, "timm", lambda: timm_model(TI16, num_classes=CLASSES), (224, 160), "bicubic_antialias", CLASSES),
    "timm_vit_tiny_gain_1": Case(
        TI16, "timm", lambda: timm_model(TI16, num_classes=CLASSES), (224, 160), "bicubic_antialias", CLASSES,
        gain_mean=1.0),
    "timm_vit_tiny_no_qkv_bias": Case(
        TI16, "timm", lambda: timm_model(TI16, num_classes=0, qkv_bias=False), (224, 288), "bicubic_antialias",
        qkv_bias=False),
    "timm_vit_small": Case(
        S16, "timm", lambda: timm_model(S16, num_classes=0), (224, 112), "bicubic_antialias"),
    "timm_vit_base": Case(
        B16, "timm", lambda: timm_model(B16, num_classes=CLASSES), (224, 160), "bicubic_antialias", CLASSES),
    "timm_dinov2_small": Case(
        S14, "timm", lambda: timm_model(S14, num_classes=0), (518, 224), "bicubic_antialias"),
    "timm_dinov2_small_gain_1": Case(
        S14, "timm", lambda: timm_model(S14, num_classes=0), (518, 224), "bicubic_antialias", gain_mean=1.0),
    "timm_dinov2_small_reg4": Case(
        S14_REG, "timm", lambda: timm_model(S14_REG, num_classes=0), (518, 224), "bicubic_antialias"),
    "hf_vit_base": Case(
        B16, "transformers", lambda: hf_model(VIT, "base", 224, 16), (224, 160), "bicubic", norm_eps=1e-12),
    "hf_vit_small_classifier": Case(
        S16, "transformers", lambda: hf_model(VIT_CLASSIFIER, "small", 224, 16, num_labels=CLASSES), (224, 160),
        "bicubic", CLASSES, norm_eps=1e-12),
    "hf_vit_tiny_no_qkv_bias": Case(
        TI16, "transformers", lambda: hf_model(VIT, "tiny", 224, 16, qkv_bias=False), (224, 96), "bicubic",
        norm_eps=1e-12, qkv_bias=False),
    "hf_dinov2_small": Case(
        S14, "transformers", lambda: hf_model(DINOV2, "small", 518, 14), (518, 224), "bicubic"),
    "hf_dinov2_small_reg4": Case(
        S14_REG, "transformers", lambda: hf_model(DINOV2_REGISTERS, "small", 518, 14), (518, 224),
        "bicubic_antialias"),
    # torchvision's ViT takes its native size only.
    "torchvision_vit_b_16": Case(
        B16, "torchvision", lambda: torchvision_model("vit_b_16"), (224,), "bicubic", CLASSES),
    "torchvision_resnet18": cnn("resnet18", "torchvision", lambda: torchvision_model("resnet18"), (96, 65)),
    "torchvision_resnet34": cnn("resnet34", "torchvision", lambda: torchvision_model("resnet34"), (96, 65)),
    "torchvision_resnet50": cnn("resnet50", "torchvision", lambda: torchvision_model("resnet50"), (64, 97)),
    "hf_resnet18": cnn("resnet18", "transformers", lambda: hf_resnet(
        layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512]), (96, 65)),
    "hf_resnet50": cnn("resnet50", "transformers", hf_resnet, (64, 97)),
    "timm_resnet18": cnn("resnet18", "timm", lambda: timm_cnn("resnet18", 0), (64, 97), classes=0),
    "timm_resnet34": cnn("resnet34", "timm", lambda: timm_cnn("resnet34"), (64,)),
    "timm_resnet50": cnn("resnet50", "timm", lambda: timm_cnn("resnet50"), (64, 97)),
    "timm_efficientnet_lite0": cnn(LITE0, "timm", lambda: timm_cnn(LITE0), (96, 65)),
    "timm_tf_efficientnet_lite0": cnn(
        "tf_" + LITE0, "timm", lambda: timm_cnn("tf_" + LITE0), (96, 65), norm_eps=1e-3, padding="same"),
    # timm's own Lite0 with TensorFlow's padding answers, under the names of efficientnet_pytorch.
    "renamed_efficientnet_lite0": cnn(
        LITE0, "efficientnet-pytorch", lambda: timm_cnn("tf_" + LITE0), (96, 65), norm_eps=1e-3, padding="same"),
    "cifar_resnet20": cnn("resnet20_cifar", "cifar", lambda: CifarResNet(3, CLASSES), (32, 45), shortcut="pad"),
    "cifar_resnet32_shortcut": cnn(
        "resnet32_cifar", "cifar", lambda: CifarResNet(5, CLASSES, shortcut="shortcut"), (32,)),
    "cifar_resnet56_downsample": cnn(
        "resnet56_cifar", "cifar", lambda: CifarResNet(9, CLASSES, "fc", "downsample"), (32,)),
}


def generator_of(name):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def draw_cnn(model):
    """As draw(), for a convolutional network."""
    norms = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.dim() == 4:
            tensor.data.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator_of(name))
        elif id(tensor) in norms or name.endswith("running_var"):
            tensor.data.uniform_(0.5, 1.5, generator=generator_of(name))
        elif not name.endswith("num_batches_tracked"):
            tensor.data.normal_(0, 0.2, generator=generator_of(name))


def draw(model, gain_mean):
    """Fills every parameter in place; see the top of this file."""
    gains = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        generator = generator_of(name)
        last = name.rpartition(".")[2]
        if last in ("gamma", "lambda1"):
            parameter.data.uniform_(0.5, 1.5, generator=generator)
        else:
            tokens = "token" in name or "pos" in name
            std = 0.2 if tokens or parameter.dim() == 1 else 0.05
            parameter.data.normal_(gain_mean if id(parameter) in gains else 0.0, std, generator=generator)


def answers(case, model, images):
    """(features [B, D], logits [B, C] or None), by the library's own forward pass at any size."""
    if case.library == "cifar":
        return model.features(images), model(images)
    if case.library == "transformers" and case.network == "cnn":
        return model.resnet(images).pooler_output.flatten(1), model(images).logits
    if case.library in ("timm", "efficientnet-pytorch"):
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        return features, model(images) if case.classes else None
    if case.library == "torchvision":
        seen = []
        head = model.fc if case.network == "cnn" else model.heads
        with_hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        logits = model(images)
        with_hook.remove()
        return seen[0], logits
    options = {} if case.arch.endswith("dinov2") else {"interpolate_pos_encoding": True}
    if case.classes:
        body = next(module for name, module in model.named_children() if name != "classifier")
        return body(images, **options).last_hidden_state[:, 0], model(images, **options).logits
    return model(images, **options).last_hidden_state[:, 0], None


def save_checkpoint(model, library, path):
    if library != "transformers":
        renamed = as_efficientnet_pytorch if library == "efficientnet-pytorch" else str
        save_file({renamed(name): tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
        return
    # save_pretrained gives the names of published checkpoints, which the modules' own names need not be.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        model.save_pretrained(folder)
        shutil.move(Path(folder) / "model.safetensors", path)


def describe(name, case):
    return {
        "name": name, "arch": case.arch, "library": case.library,
        "version": sys.modules.get(case.library, torch).__version__, "network": case.network,
        "native_size": case.sizes[0], "sizes": list(case.sizes), "pos_interpolation": case.pos_interpolation,
        "norm_eps": case.norm_eps, "qkv_bias": case.qkv_bias, "classes": case.classes, "gain_mean": case.gain_mean,
        "padding": case.padding, "shortcut": case.shortcut,
    }


@torch.inference_mode()
def write_case(name, case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model = case.build().eval()
    if case.network == "cnn":
        draw_cnn(model)
    else:
        draw(model, case.gain_mean)
    images, expected = {}, {}
    for size in case.sizes:
        generator = torch.Generator().manual_seed(size)
        images[f"images.{size}"] = torch.randn(2, 3, size, size, generator=generator)
        features, logits = answers(case, model, images[f"images.{size}"])
        expected[f"features.{size}"] = features.contiguous()
        if logits is not None:
            expected[f"logits.{size}"] = logits.contiguous()
    save_checkpoint(model, case.library, folder / "checkpoint.safetensors")
    save_file(images, folder / "images.safetensors")
    save_file(expected, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps(describe(name, case), indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--only", action="append", choices=CASES, metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    if options.list:
        print("\n".join(CASES))
        return
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in options.only or CASES:
        start = time.monotonic()
        write_case(name, CASES[name], options.out / name)
        print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    # Default initialisation is overwritten anyway; skipping it halves the time.
    for initialise in ("trunc_normal_", "normal_", "uniform_", "kaiming_uniform_", "xavier_uniform_"):
        setattr(torch.nn.init, initialise, lambda tensor, *args, **kwargs: tensor)
    main()
