"""Making model directories: from checkpoints, and with templates in place of weights."""

from __future__ import annotations

import os
from typing import Any

from . import _core
from .progress import ProgressFunction, forwarded

StrPath = str | os.PathLike[str]


def _path(path: StrPath | None) -> str | None:
    return None if path is None else os.fspath(path)


def import_checkpoint(checkpoint: StrPath, architecture: str, out: StrPath, *,
                      mean: tuple[float, float, float] | None = None, std: tuple[float, float, float] | None = None,
                      interpolation: str | None = None, crop_pct: float | None = None, image_size: int | None = None,
                      pooling: str | None = None, labels: StrPath | None = None, force: bool = False) -> dict[str, Any]:
    """Turns a safetensors checkpoint (timm's, Hugging Face's, torchvision's names) into a new model directory; its
    classifier becomes the task `pretrained`. Returns {directory, architecture, naming, fingerprint, parameters, bytes,
    preprocessing, task}. A timm module that is in memory: recast.adapt() and recast.write_model().

    Raises NotFoundError, UnsupportedError, ShapeMismatchError, DataCorruptionError, AlreadyExistsError.
    """
    return _core.import_model({
        "checkpoint": os.fspath(checkpoint), "architecture": architecture, "out": os.fspath(out), "mean": mean,
        "std": std, "interpolation": interpolation, "crop_pct": crop_pct, "image_size": image_size, "pooling": pooling,
        "labels": _path(labels), "force": force})


def mimic(directory: StrPath, out: StrPath, *, target: str = "", groups: int = 0, templates: int = 0, sets: int = 2,
          solver: str = "closed", steps: int = 0, rate: float = 0, seed: int = 42, heal: int = 0, heal_batch: int = 8,
          heal_rate: float = 0.003, data: StrPath | None = None, images: int = 32, image_size: int | None = None,
          force: bool = False, progress: ProgressFunction | None = None) -> dict[str, Any]:
    """Neural mimicry: a model directory whose weights are combinations of templates (docs/mimicry.md).

    target: attn, mlp, attn+mlp, all; conv. 0 and "": the default of the target; 0 steps and rate: the paper's. heal:
    steps of distillation on `data` after a mimicry that is not exact. Returns {directory, fingerprint, relative_error,
    mean_cosine, worst_cosine, slots: [{slot, relative_error, cosine}], coefficients, bytes, tasks, heal, ...}.

    Raises NotFoundError, InvalidArgumentError, AlreadyExistsError, KeyboardInterrupt (nothing is written).
    """
    return _core.mimic({
        "directory": os.fspath(directory), "out": os.fspath(out), "target": target, "groups": groups,
        "templates": templates, "sets": sets, "solver": solver, "steps": steps, "rate": rate, "seed": seed,
        "heal": heal, "heal_batch": heal_batch, "heal_rate": heal_rate, "data": _path(data), "images": images,
        "image_size": image_size, "force": force}, forwarded(progress))


def compare_solvers(directory: StrPath, *, target: str = "", groups: int = 0, templates: int = 0, sets: int = 2,
                    steps: int = 0, rate: float = 0, seed: int = 42, data: StrPath | None = None, images: int = 32,
                    image_size: int | None = None, out: StrPath | None = None, force: bool = False,
                    progress: ProgressFunction | None = None) -> dict[str, Any]:
    """Every solver on the same banks; writes no model. Returns {solvers: [{solver, seconds, relative_error,
    mean_cosine, slots, likeness, ...}], closed_has_least_error, least_speed_ratio, images, ...}. data: images on which
    layers and answers are compared, too; out: FILE.html or FILE.json. steps and rate are those of the solvers that take
    steps.

    Raises NotFoundError, InvalidArgumentError, KeyboardInterrupt.
    """
    return _core.compare_solvers({
        "directory": os.fspath(directory), "target": target, "groups": groups, "templates": templates, "sets": sets,
        "steps": steps, "rate": rate, "seed": seed, "data": _path(data), "images": images, "image_size": image_size,
        "out": _path(out), "force": force, "command": "python: compare_solvers"}, forwarded(progress))


def sweep_mimicry(directory: StrPath, *, target: str = "", sets: int = 2, solver: str = "closed", steps: int = 0,
                  rate: float = 0, seed: int = 42, data: StrPath | None = None, images: int = 32,
                  image_size: int | None = None, out: StrPath | None = None, force: bool = False,
                  progress: ProgressFunction | None = None) -> dict[str, Any]:
    """One solver over numbers of groups and templates; writes no model. Returns {points: [{groups, templates, exact,
    bytes, coefficients, relative_error, mean_cosine, seconds, likeness, ...}], skipped, original_bytes, ...}."""
    return _core.sweep_mimicry({
        "directory": os.fspath(directory), "target": target, "sets": sets, "solver": solver, "steps": steps,
        "rate": rate, "seed": seed, "data": _path(data), "images": images, "image_size": image_size, "out": _path(out),
        "force": force, "command": "python: sweep_mimicry"}, forwarded(progress))
