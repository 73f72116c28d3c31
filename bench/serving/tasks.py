"""What all servers of bench/serve work on, in build/bench/serving: the bench's random ViT-S/16 with templates, the
numbers of so many tasks, the store that holds them, LoRA adapters for PEFT, and images."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

import workload

CLASSES = (2, 5, 10, 20, 50)     # of the tasks, in turn
DISTINCT = 10_000                # tasks beyond have the numbers of earlier ones, under another name
ADAPTERS = 256                   # of PEFT that differ; 75 MB
SPREAD = 0.1                     # of coefficients around the backbone's own
IMAGES, IMAGE_WIDTH, IMAGE_HEIGHT, JPEG_QUALITY = 16, 500, 375, 90
FORMAT = 1                       # of what lies in the folder


@dataclass
class Work:
    folder: Path
    checkpoint: Path
    bare: Path       # the model directory without a task
    model: Path      # with all tasks
    numbers: Path    # of the tasks: "c@SLOT" [N, K, n], "classes" [N], heads one behind the other
    adapters: Path   # "A" [M, blocks, r, D], "B" [M, blocks, 3D, r]
    tasks: int
    size: int


def task_name(number):
    return f"task-{number:07}"


def kept(path, parameters, make):
    """Makes a file or folder unless it is there and was made with the same parameters."""
    stamp = path.with_name(path.name + ".json")
    wanted = json.dumps(parameters | {"format": FORMAT}, sort_keys=True)
    if not (path.exists() and stamp.exists() and stamp.read_text() == wanted):
        stamp.unlink(missing_ok=True)
        make()
        stamp.write_text(wanted)
    return path


def make_numbers(path, model, count, sizes=CLASSES):
    """Coefficients around the backbone's own, heads of so many classes in turn."""
    generator = torch.Generator().manual_seed(2)
    classes = torch.tensor([sizes[i % len(sizes)] for i in range(count)])
    numbers = {"classes": classes, "bias": 0.1 * torch.randn(int(classes.sum()), generator=generator),
               "weight": 0.05 * torch.randn(int(classes.sum()), workload.WIDTH, generator=generator)}
    neutral = workload.starting_numbers(generator, 0, model)
    for name in (name for name in neutral if name.startswith("c@")):
        drawn = torch.randn(count, workload.SETS, workload.TEMPLATES, generator=generator)
        numbers[name] = neutral[name] + SPREAD * drawn
    save_file(numbers, path)


def make_adapters(path, rank):
    generator = torch.Generator().manual_seed(3)
    wide, blocks = workload.WIDTH, workload.DEPTH
    save_file({"A": torch.randn(ADAPTERS, blocks, rank, wide, generator=generator) / wide**0.5,
               "B": 0.1 * torch.randn(ADAPTERS, blocks, 3 * wide, rank, generator=generator)}, path)


def fill(program, bare, model, numbers, count, image_size):
    """A copy of a model directory with so many tasks. Each is one commit with its own sync, so it is filled in memory
    where that can be, and moved then."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else model.parent, prefix="recast-bench-") as folder:
        filled = Path(folder) / "model"
        shutil.copytree(bare, filled)
        result = workload.command([program, "fill", "--model", filled, "--numbers", numbers, "--count", count,
                                   "--image-size", image_size])
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(filled, model)
    print(f"  {count} tasks stored in {result['seconds']:.1f} s", flush=True)
    return result


def kept_model(options):
    """The model directory without a task."""
    options.folder.mkdir(parents=True, exist_ok=True)
    return kept(options.folder / "model", {"seed": 1},
                lambda: workload.make_workload(options.folder, options.recast, 1))


def kept_numbers(folder, model, count):
    path = folder / f"numbers-{count}.safetensors"
    return kept(path, {"count": count, "spread": SPREAD}, lambda: make_numbers(path, model, count))


def filled_model(options, numbers, tasks):
    """The model directory with the tasks 0 to `tasks` - 1, of these numbers in turn."""
    bare, model = kept_model(options), options.folder / f"tasks-{tasks}-{options.image_size}"
    return kept(model, {"tasks": tasks, "size": options.image_size, "spread": SPREAD},
                lambda: fill(options.write_tasks, bare, model, numbers, tasks, options.image_size))


def make_work(options, tasks, rank):
    """The tasks 0 to `tasks` - 1; what was made before is used again."""
    folder, bare = options.folder, kept_model(options)
    numbers = kept_numbers(folder, bare, min(tasks, DISTINCT))
    adapters = kept(folder / "adapters.safetensors", {"count": ADAPTERS, "rank": rank},
                    lambda: make_adapters(folder / "adapters.safetensors", rank))
    model = filled_model(options, numbers, tasks)
    return Work(folder, folder / "checkpoint.safetensors", bare, model, numbers, adapters, tasks, options.image_size)


def jpeg_images(count=IMAGES):
    """Smooth colours with some grain, so that they take the bytes of a photograph of that size."""
    from PIL import Image

    random, files = numpy.random.default_rng(4), []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=numpy.uint8))
        smooth = numpy.asarray(coarse.resize((IMAGE_WIDTH, IMAGE_HEIGHT), Image.Resampling.BICUBIC), numpy.float32)
        grain = 8 * random.standard_normal((IMAGE_HEIGHT, IMAGE_WIDTH, 1), numpy.float32)
        file = BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(numpy.uint8)).save(file, "jpeg", quality=JPEG_QUALITY)
        files.append(file.getvalue())
    return files


def pixel_images(size):
    """Normalised, as a client that preprocesses by itself would send them."""
    random = numpy.random.default_rng(4)
    return [random.standard_normal((3, size, size), numpy.float32) for _ in range(IMAGES)]


def machine(options):
    """The processor, what of it libtorch uses, and recast's version."""
    result = workload.command([options.write_tasks, "machine"])
    return result["machine"] | {"recast": result["versions"]["recast"]}
