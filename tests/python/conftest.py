"""What the tests of the Python package share: a small network of timm, a model directory of it, images, the program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
try:
    import recast
except ImportError:
    built = Path(os.environ.get("RECAST_BUILD", ROOT / "build" / "dev"))
    sys.path.insert(0, str(built / "python"))
    import recast

sys.path.insert(0, str(ROOT / "tests" / "golden"))
import torchvision_import  # noqa: E402, F401

timm = pytest.importorskip("timm")
CLASSES = ["blue", "green", "red"]


def toy_network(classes=3, seed=1):
    """A ViT of depth 4 for 32 px images whose every parameter matters: 0.1 million numbers."""
    torch.manual_seed(seed)
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=3,
                                num_classes=classes)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        network.head.weight.normal_(0, 0.3)
    return network.eval()


def adapted(classes=3, **options):
    return recast.adapt(toy_network(classes), **{"target": "attn", "groups": 2, **options})


def write_images(folder, per_class=12):
    """Noise around one colour a class, so that there is something to learn."""
    for index, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            noise = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(100 * index + number)) * 120
            noise[2 - index] += 70
            (folder / name / f"{number:02}.png").write_bytes(recast.encode_png(noise.clamp(0, 255).byte()))
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "colours")


@pytest.fixture(scope="session")
def frozen(tmp_path_factory):
    """A mimicked model directory without tasks; not to be written to."""
    return recast.write_model(adapted(), tmp_path_factory.mktemp("frozen") / "model").path


@pytest.fixture
def model(frozen, tmp_path):
    """A copy of it of the test's own."""
    import shutil
    shutil.copytree(frozen, tmp_path / "model")
    return recast.open(tmp_path / "model")


FAST = {"epochs": 2, "batch_size": 8, "seed": 3}


@pytest.fixture(scope="session")
def learned(frozen, images, tmp_path_factory):
    """A model directory with the task `colours`, learned from Python; not to be written to."""
    import shutil
    folder = tmp_path_factory.mktemp("learned") / "model"
    shutil.copytree(frozen, folder)
    model = recast.open(folder)
    model.learn("colours", images, **FAST)
    return model


def program(*words, check=True, **options):
    """Runs the program `recast` with as many threads as this process."""
    command = [os.environ.get("RECAST_PROGRAM", ROOT / "build" / "bin" / "recast"), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, capture_output=True, text=True, check=check, env=environment, **options)


def program_json(*words):
    return json.loads(program(*words, "--json").stdout)
