"""What all contenders work on: one random ViT-S/16, one batch, one set of numbers to start from, in build/bench."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "golden"))

import torch
import torchvision_import  # noqa: F401  before timm
import timm
from safetensors.torch import save_file

ARCHITECTURE = "vit_small_patch16_224"
DEPTH, WIDTH, CLASSES, IMAGE_PX = 12, 384, 10, 224
GROUPS, TEMPLATES, SETS = 6, 2, 2  # recast-att: 48 coefficients


@dataclass
class Workload:
    folder: Path
    checkpoint: Path
    base: Path       # as imported
    model: Path      # with banks
    start: Path      # coefficients away from the backbone's own, head
    neutral: Path    # the backbone's own coefficients, the same head: what LoRA starts from
    batch: Path


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


def starting_numbers(generator, spread, depth=DEPTH):
    numbers = {"weight": 0.05 * torch.randn(CLASSES, WIDTH, generator=generator), "bias": torch.zeros(CLASSES)}
    for block in range(depth):
        own = torch.zeros(SETS, TEMPLATES)
        own[:, block % TEMPLATES] = 1
        numbers[f"c@blocks.{block}.attn.qkv"] = own + spread * torch.randn(SETS, TEMPLATES, generator=generator)
    return numbers


def make_workload(folder, recast, batch_size, seed=1):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    work = Workload(folder, folder / "checkpoint.safetensors", folder / "base", folder / "model",
                    folder / "start.safetensors", folder / "neutral.safetensors", folder / "batch.safetensors")
    generator = torch.Generator().manual_seed(seed)
    save_file(random_backbone(generator), work.checkpoint)
    save_file({"input": torch.randn(batch_size, 3, IMAGE_PX, IMAGE_PX, generator=generator),
               "label": torch.randint(0, CLASSES, (batch_size,), generator=generator)}, work.batch)
    save_file(starting_numbers(generator, 0.1), work.start)
    save_file(starting_numbers(generator, 0), work.neutral)
    command([recast, "import", work.checkpoint, "--arch", ARCHITECTURE, "--out", work.base, "--force", "--quiet"])
    mimic(recast, work.base, work.model, GROUPS)
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
