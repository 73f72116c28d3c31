"""Images for a backbone: the same splits, the same pixels as the program `recast` uses, as torch tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.utils.data
from torch import Tensor

from . import _core


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a backbone's input: shorter side to floor(size_px / crop_pct), antialiased, centre square
    of size_px, then (x / 255 - mean) / std. `ModelDirectory.preprocessing` is a backbone's own;
    dataclasses.replace(p, size_px=112) another size."""

    size_px: int = 224
    crop_pct: float = 1.0
    interpolation: str = "bicubic"  #: or "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


def preprocessing_of(fields: dict[str, Any]) -> Preprocessing:
    """From config.json."""
    return Preprocessing(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})


def several(texts: Sequence[str] | str) -> list[str]:
    """One text or several as a list."""
    return [texts] if isinstance(texts, str) else list(texts)


class Dataset:
    """Labelled images in three splits: a folder of class folders, a CSV file (path,label[,split]), CIFAR binaries or
    IDX files (docs/data.md). Splits are those of `recast learn --split-seed`: the same seed, the same images.

        recast.Dataset("cifar-100-binary", superclass="people", limit_train=100)

    Raises NotFoundError, UnsupportedError, DataCorruptionError, ExhaustedError as the program does.
    """

    def __init__(self, path: str | os.PathLike[str], *, split_seed: int = 42, classes: Sequence[str] | str = (),
                 superclass: Sequence[str] | str = (), limit_train: int = 0, limit_validation: int = 0,
                 limit_test: int = 0) -> None:
        """classes, superclass: only these classes, and those of these superclasses. limit_train, limit_validation,
        limit_test: images of each class, 0 for all; of validation, where it is not limited, the share that is kept of
        training."""
        self._core = _core.open_dataset({
            "path": os.fspath(path), "split_seed": split_seed, "classes": several(classes),
            "superclass": several(superclass), "limit_train": limit_train, "limit_validation": limit_validation,
            "limit_test": limit_test})

    @property
    def classes(self) -> list[str]:
        """Sorted; label c stands for classes[c]."""
        return self._core.classes

    @property
    def superclasses(self) -> dict[str, list[str]]:
        """{superclass: its classes}, where the files tell of some: CIFAR-100's do."""
        return self._core.superclasses

    @property
    def path(self) -> str:
        """Where it was opened."""
        return self._core.path

    @property
    def kind(self) -> str:
        """folder, csv, cifar10, cifar100 or idx."""
        return self._core.kind

    def examples(self, split: str) -> list[tuple[str, int]]:
        """(id, label) of each image of "train", "validation" or "test"."""
        return self._core.examples(split)

    def image(self, split: str, row: int) -> Tensor:
        """uint8 [3, H, W], as stored."""
        return self._core.image(split, row)

    def describe(self) -> dict[str, Any]:
        """{path, kind, split_seed, limits, classes, counts, sha256: of each split}."""
        return self._core.describe()

    def split(self, name: str, preprocessing: Preprocessing | None = None) -> Split:
        """One split as a torch Dataset."""
        return Split(self, name, preprocessing)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {split}" for split, count in self.describe()["counts"].items())
        return f"recast.Dataset({self.path!r}: {len(self.classes)} classes, {counts})"


class Split(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A split by index: (float32 [3, S, S] normalised, label). For torch's own DataLoader with num_workers=0;
    recast.DataLoader decodes in threads and is faster."""

    def __init__(self, dataset: Dataset, name: str, preprocessing: Preprocessing | None = None) -> None:
        self.dataset, self.name = dataset, name
        self._images = _core.Images(dataset._core, name, asdict(preprocessing or Preprocessing()), "none", 0, 2 << 30,
                                    "stop")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        input, label, _ = _core.Stream(self._images, [row % len(self)], 1, False, 0, 0).next()
        return input[0], int(label[0])


class DataLoader:
    """Batches of a split: (float32 [B, 3, S, S] normalised, int64 [B] labels), decoded and augmented in C++ threads.

    Each iteration is one pass; the last batch may be short. With `shuffle` every pass has an order of its own, and
    augmentation draws anew: both are functions of `seed` and `epoch` (which counts passes; set it to repeat one),
    whatever the batch size and the number of threads.
    """

    def __init__(self, dataset: Dataset, split: str, *, preprocessing: Preprocessing | None = None,
                 batch_size: int = 64, shuffle: bool = False, augmentation: str = "none", seed: int = 42,
                 threads: int = 2, cache_bytes: int = 2 << 30, bad_images: str = "stop") -> None:
        """augmentation: none, flips or paper. cache_bytes: memory for decoded images, 0 for none. bad_images: "stop"
        raises at a damaged image, "skip" reads all once and leaves those out (see `skipped`)."""
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.epoch = 0
        self._augmented = augmentation != "none"
        self._images = _core.Images(dataset._core, split, asdict(preprocessing or Preprocessing()), augmentation,
                                    threads, cache_bytes, bad_images)

    def __len__(self) -> int:
        """Batches of a pass."""
        return -(-len(self._images) // self.batch_size)

    @property
    def rows(self) -> int:
        """Images of a pass."""
        return len(self._images)

    @property
    def skipped(self) -> dict[str, Any]:
        """{count, first: [{image, reason}]} of what bad_images="skip" left out."""
        return self._images.skipped()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = self._images.order(self.shuffle, self.seed, epoch)
        stream = _core.Stream(self._images, order, self.batch_size, self._augmented, self.seed, epoch)
        while (batch := stream.next()) is not None:
            yield batch[0], batch[1]


def decode_image(image: str | os.PathLike[str] | bytes) -> Tensor:
    """A JPEG, PNG or WebP file, or its bytes, as uint8 [3, H, W]: Pillow's pixels bit by bit, EXIF orientation applied
    (docs/data.md). Raises DataCorruptionError, UnsupportedError, ExhaustedError, NotFoundError."""
    if isinstance(image, bytes):
        return _core.decode_image(image, "bytes")
    return _core.read_image(os.fspath(image))


def evaluation_pixels(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 [3, H, W] resized and cropped to uint8 [3, S, S], as torchvision's Resize and CenterCrop do, bit by bit."""
    return _core.evaluation_pixels(image, asdict(preprocessing))


def normalise(pixels: Tensor | Sequence[Tensor], preprocessing: Preprocessing) -> Tensor:
    """uint8 [B, 3, S, S], or a list of [3, S, S], as float32 [B, 3, S, S]: what a backbone takes."""
    batch = pixels if isinstance(pixels, Tensor) else torch.stack(list(pixels))
    return _core.normalise(batch, asdict(preprocessing))


def encode_png(image: Tensor) -> bytes:
    """uint8 [3, H, W] as the bytes of a PNG file."""
    return _core.encode_png(image)
