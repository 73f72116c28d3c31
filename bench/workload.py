"""What all contenders work on: one random network, one batch, one set of numbers to start from, in build/bench."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "golden"))

import torch
import torchvision_import  # noqa: F401  before timm
import timm
from safetensors.torch import load_file, save_file

ARCHITECTURE = "vit_small_patch16_224"
DEPTH, WIDTH, CLASSES, IMAGE_PX = 12, 384, 10, 224
TEMPLATES, SETS = 2, 2


@dataclass(frozen=True)
class Mimicked:
    """What `recast mimic` is asked for, and the width of the features."""
    target: str
    groups: int
    width: int


MIMICKED = {ARCHITECTURE: Mimicked("attn", 6, WIDTH),  # recast-att: 48 coefficients
            "resnet34": Mimicked("conv", 1, 512)}      # 24 convolutions, a bank for those of a stage: 96 coefficients


@dataclass
class Workload:
    architecture: str
    folder: Path
    checkpoint: Path
    base: Path       # as imported
    model: Path      # with banks
    start: Path      # coefficients away from the backbone's own, head
    neutral: Path    # the backbone's own coefficients, the same head: what LoRA starts from
    batch: Path
    network: Path    # for ONNX Runtime


def random_backbone(generator, architecture=ARCHITECTURE):
    """Every parameter matters: matrices keep the size of what passes, gains around 1, the rest around 0."""
    tensors = {}
    for name, tensor in timm.create_model(architecture, num_classes=0).state_dict().items():
        if not tensor.is_floating_point():
            continue  # how many batches a norm has seen
        drawn = torch.randn(tensor.shape, generator=generator)
        if name in ("cls_token", "pos_embed"):
            drawn *= 0.5
        elif tensor.dim() > 1:
            drawn /= tensor[0].numel() ** 0.5
        elif name.endswith("running_var"):
            drawn = 0.5 + drawn.abs()
        elif name.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn *= 0.1
        tensors[name] = drawn
    return tensors


def starting_numbers(generator, spread, model, width=WIDTH):
    """A head, and coefficients around the backbone's own, in the order of a model directory's slots."""
    numbers = {"weight": 0.05 * torch.randn(CLASSES, width, generator=generator), "bias": torch.zeros(CLASSES)}
    bank = load_file(model / "bank.safetensors")
    for group in json.loads((model / "config.json").read_text())["bank"]["members"]:
        for slot in group["slots"]:
            own = bank[f"{slot}.coefficients"]
            numbers[f"c@{slot}"] = own + spread * torch.randn(own.shape, generator=generator)
    return numbers


def make_workload(folder, recast, batch_size, seed=1, architecture=ARCHITECTURE):
    """In `folder`, of another architecture than the ViT in a folder of its own within."""
    folder = Path(folder) / ("" if architecture == ARCHITECTURE else architecture)
    folder.mkdir(parents=True, exist_ok=True)
    work = Workload(architecture, folder, folder / "checkpoint.safetensors", folder / "base", folder / "model",
                    folder / "start.safetensors", folder / "neutral.safetensors", folder / "batch.safetensors",
                    folder / "network.onnx")
    generator, asked = torch.Generator().manual_seed(seed), MIMICKED[architecture]
    save_file(random_backbone(generator, architecture), work.checkpoint)
    save_file({"input": torch.randn(batch_size, 3, IMAGE_PX, IMAGE_PX, generator=generator),
               "label": torch.randint(0, CLASSES, (batch_size,), generator=generator)}, work.batch)
    command([recast, "import", work.checkpoint, "--arch", architecture, "--out", work.base, "--force", "--quiet"])
    mimic(recast, work.base, work.model, asked.groups, asked.target)
    save_file(starting_numbers(generator, 0.1, work.model, asked.width), work.start)
    save_file(starting_numbers(generator, 0, work.model, asked.width), work.neutral)
    return work


def make_base(folder, recast, architecture, seed=1):
    """A model directory of an architecture with random weights, made once."""
    base = Path(folder) / f"{architecture}-base"
    if not (base / "config.json").exists():
        checkpoint = Path(folder) / f"{architecture}.safetensors"
        save_file(random_backbone(torch.Generator().manual_seed(seed), architecture), checkpoint)
        command([recast, "import", checkpoint, "--arch", architecture, "--out", base, "--force", "--quiet"])
    return base


def mimic(recast, base, out, groups, target="attn"):
    return command([recast, "mimic", base, "--target", target, "--groups", groups, "--templates", TEMPLATES, "--sets",
                    SETS, "--out", out, "--force", "--json", "--quiet"])


def command(words):
    """Runs a command; what it prints as JSON, if anything."""
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, words))} ended with status {done.returncode}")
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return None
