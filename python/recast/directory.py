"""Model directories: a frozen backbone and its tasks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from . import _core
from .data import DataLoader, Dataset, Preprocessing, preprocessing_of, several
from .plugs import Plug, plug_texts
from .progress import ProgressFunction, forwarded
from .tasks import Tasks

StrPath = str | os.PathLike[str]


def _given(settings: dict[str, Any]) -> str:
    """For the record of a run: what was asked for, in one line."""
    shown = ", ".join(f"{key}={value!r}" for key, value in settings.items() if value is not None)
    return f"python: {shown}"


class ModelDirectory:
    """An opened model directory; `recast.open(path)` makes one.

    Threads: all calls may run in parallel, and release the interpreter's lock while they work.
    """

    def __init__(self, path: StrPath, *, device: str = "cpu", read_only: bool = False, store: str = "") -> None:
        """device: "cpu", "cuda", "cuda:1". read_only: no file is made or changed, an absent task store counts as empty.
        store: the tasks of this database, postgresql://USER@HOST/DATABASE, instead of the directory's own.

        Raises NotFoundError, DataCorruptionError, ShapeMismatchError (files against config.json), UnsupportedError.
        """
        self._core = _core.ModelDirectory(os.fspath(path), read_only, device, store)
        self._read_only = read_only
        self.tasks = Tasks(self._core)

    @property
    def path(self) -> str:
        """Where it was opened."""
        return self._core.path

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the backbone computes with; tasks belong to it."""
        return self._core.fingerprint

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0"."""
        return self._core.device

    @property
    def feature_width(self) -> int:
        """D."""
        return self._core.feature_width

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return self._core.config

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the backbone's input."""
        return preprocessing_of(self.config["preprocessing"])

    def inspect(self) -> dict[str, Any]:
        """What `recast inspect --json` prints: {config, slots, groups, bytes, parameters, ...}."""
        return self._core.inspect()

    def bank(self) -> dict[str, Tensor]:
        """{"GROUP.templates": float32 [n, shape...], "SLOT.coefficients": [K, n]}; empty if not mimicked. Shared with
        the backbone: not to be written."""
        return self._core.bank()

    def weights(self) -> dict[str, Tensor]:
        """The backbone's own float32 weights and vectors by slot, those under a bank rebuilt from their templates. Not
        to be written."""
        return self._core.weights()

    def features(self, pixels: Tensor, *, bf16: bool = False) -> Tensor:
        """Features float32 [B, D] of the bare backbone for normalised pixels, floating [B, 3, H, W]; differentiable in
        them."""
        return self._core.features(pixels, bf16)

    def loader(self, dataset: Dataset | StrPath, split: str, *, image_size: int | None = None,
               **options: Any) -> DataLoader:
        """A recast.DataLoader with this backbone's preprocessing, at another size if `image_size` says so."""
        preprocessing = self.preprocessing
        if image_size is not None:
            preprocessing = replace(preprocessing, size_px=image_size)
        opened = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
        return DataLoader(opened, split, preprocessing=preprocessing, **options)

    def learn(self, task: str, data: StrPath, *, plugs: Iterable[Plug | str] | Plug | str = (), recipe: str = "fast",
              image_size: int | None = None, epochs: int | None = None, batch_size: int | None = None,
              lr: float | None = None, head_lr: float | None = None, weight_decay: float | None = None,
              augmentation: str | None = None, bn: str = "frozen", bf16: bool | None = None, seed: int = 42,
              seeds: Sequence[int] = (), split_seed: int = 42, classes: Sequence[str] | str = (),
              superclass: Sequence[str] | str = (), limit_train: int = 0, limit_validation: int = 0,
              limit_test: int = 0, bad_images: str = "stop", shared: str = "", run_folder: StrPath | None = None, resume: bool = False,
              force: bool = False, test: bool = True, tensorboard: bool = False, mlflow: str | None = None,
              mlflow_experiment: str = "", progress: ProgressFunction | None = None) -> dict[str, Any]:
        """Learns a task from images and stores it as its next version, as `recast learn` does: keywords are its flags,
        and the same seed, machine and number of threads give the same bits.

        plugs: `recast.plugs` or texts "NAME:key=value"; none: those that the recipe takes for this backbone. None
        anywhere: the recipe's own. seeds: learn once with each. tensorboard, mlflow: figures as event files and as a run
        of MLflow's file store (docs/logging.md). Returns what results.json holds (docs/figures.md).

        Ctrl-C, or an exception of `progress`, stops after the step at hand; resume=True goes on from there to the same
        result. Raises InvalidArgumentError, NotFoundError, UnsupportedError, ShapeMismatchError, DataCorruptionError,
        AlreadyExistsError (an unfinished run is in the way), UnavailableError (opened for reading only),
        KeyboardInterrupt.
        """
        if self._read_only:
            _core.raise_error("unavailable", f"[learn] {self.path}: was opened for reading only; open it for writing")
        settings = {"task": task, "data": os.fspath(data), "plugs": plug_texts(plugs), "recipe": recipe,
                    "image_size": image_size, "epochs": epochs, "batch_size": batch_size, "lr": lr, "head_lr": head_lr,
                    "weight_decay": weight_decay, "augmentation": augmentation, "bn": bn, "bf16": bf16, "seed": seed,
                    "seeds": list(seeds), "split_seed": split_seed, "classes": several(classes),
                    "superclass": several(superclass), "limit_train": limit_train,
                    "limit_validation": limit_validation, "limit_test": limit_test, "bad_images": bad_images, "shared": shared,
                    "run_folder": None if run_folder is None else os.fspath(run_folder), "resume": resume,
                    "force": force, "test": test, "tensorboard": tensorboard, "mlflow": mlflow,
                    "mlflow_experiment": mlflow_experiment}
        return self._core.learn({**settings, "command": _given(settings)}, forwarded(progress))

    def stream(self, task: str, data: StrPath, *, increment: int, base: int = 0, class_seed: int = 1993,
               kind: str = "disjoint", share: float | None = None, unlabelled: str = "base", keep: str = "all",
               forward_transfer: bool = True, plugs: Iterable[Plug | str] | Plug | str = (), recipe: str = "fast",
               image_size: int | None = None, epochs: int | None = None, batch_size: int | None = None,
               lr: float | None = None, head_lr: float | None = None, weight_decay: float | None = None,
               augmentation: str | None = None, bn: str = "frozen", bf16: bool | None = None, seed: int = 42,
               split_seed: int = 42, limit_train: int = 0, limit_test: int = 0, bad_images: str = "stop",
               shared: str = "", run_folder: StrPath | None = None, resume: bool = False, force: bool = False,
               tensorboard: bool = False, mlflow: str | None = None, mlflow_experiment: str = "",
               progress: ProgressFunction | None = None) -> dict[str, Any]:
        """Learns the classes of a dataset step by step with one head and no task id, as `recast stream` does
        (docs/streams.md), and stores the task after each step.

        base, increment: classes of the first step (0: as many as of the others) and of each later one, in the order of
        class_seed. kind: disjoint, mixed or recurring, with `share`. unlabelled: rows without labels for plug-ins that
        prepare themselves, of the first step (base) or of all. keep: versions stored, all, last or none. The other
        keywords as in learn(). Returns {steps, matrix, top1, average, last, forgetting, backward_transfer,
        forward_transfer, formulas, ...}.

        Ctrl-C, or an exception of `progress`, stops; resume=True goes on from the last step that is stored. Raises as
        learn() does; UnsupportedError: classes come back, and the head learns each once.
        """
        if self._read_only and keep != "none":
            _core.raise_error("unavailable", f"[stream] {self.path}: was opened for reading only; open it for writing")
        settings = {"task": task, "data": os.fspath(data), "increment": increment, "base": base,
                    "class_seed": class_seed, "kind": kind, "share": share, "unlabelled": unlabelled, "keep": keep,
                    "forward_transfer": forward_transfer, "plugs": plug_texts(plugs), "recipe": recipe,
                    "image_size": image_size, "epochs": epochs, "batch_size": batch_size, "lr": lr, "head_lr": head_lr,
                    "weight_decay": weight_decay, "augmentation": augmentation, "bn": bn, "bf16": bf16, "seed": seed,
                    "split_seed": split_seed, "limit_train": limit_train, "limit_test": limit_test,
                    "bad_images": bad_images, "shared": shared,
                    "run_folder": None if run_folder is None else os.fspath(run_folder), "resume": resume,
                    "force": force, "tensorboard": tensorboard, "mlflow": mlflow,
                    "mlflow_experiment": mlflow_experiment}
        return self._core.stream({**settings, "command": _given(settings)}, forwarded(progress))

    def evaluate(self, task: str = "", data: StrPath | None = None, *, bf16: bool = False, bad_images: str = "stop",
                 progress: ProgressFunction | None = None) -> dict[str, Any]:
        """Measures a task on the test split of its data, or of other data with the same labels: {task, version, rows,
        top1, top1_interval95, top5, loss, per_class, confusion, labels, ...}. Without a task: {tasks: [...], skipped}.

        Raises NotFoundError, ShapeMismatchError (labels differ).
        """
        settings = {"task": task, "data": None if data is None else os.fspath(data), "bf16": bf16,
                    "bad_images": bad_images}
        return self._core.evaluate({**settings, "command": _given(settings)}, forwarded(progress))

    def predict(self, task: str, images: Sequence[StrPath] | StrPath, *, top: int = 5, features: StrPath | None = None,
                bf16: bool = False, force: bool = False, progress: ProgressFunction | None = None) -> dict[str, Any]:
        """Classifies image files, or one: {task, version, labels, predictions: [{image, label, probability, top, logits}]}. A
        row does not depend on the others. features: a safetensors file to write the features to.

        Raises NotFoundError, DataCorruptionError, AlreadyExistsError.
        """
        files = [images] if isinstance(images, (str, os.PathLike)) else images
        return self._core.predict({"task": task, "images": [os.fspath(file) for file in files], "top": top,
                                   "features": None if features is None else os.fspath(features), "bf16": bf16,
                                   "force": force}, forwarded(progress))

    def compare(self, a: Sequence[str] | str, b: Sequence[str] | str, data: StrPath | None = None, *,
                bf16: bool = False, progress: ProgressFunction | None = None) -> dict[str, Any]:
        """Tests whether task b is better than a on the same test images, or b[i] than a[i] over several seeds
        (docs/figures.md): {pairs, over_images: {difference, interval95, p, test}, over_seeds, ...}."""
        settings = {"a": [a] if isinstance(a, str) else list(a), "b": [b] if isinstance(b, str) else list(b),
                    "data": None if data is None else os.fspath(data), "bf16": bf16}
        return self._core.compare({**settings, "command": _given(settings)}, forwarded(progress))

    def export_onnx(self, file: StrPath, task: str = "", *, per_row: bool = False, like: str = "", image_size: int = 0,
                    external_data: bool = False, force: bool = False) -> dict[str, Any]:
        """Writes the network as an ONNX model (docs/onnx.md): with a task baked in, or with tasks as inputs of the graph,
        one a row with per_row. Returns {file, bytes, form, inputs, outputs, image_size, ...}.

        Raises NotFoundError, UnsupportedError, InvalidArgumentError, AlreadyExistsError.
        """
        return self._core.export_onnx({"file": os.fspath(file), "task": task, "per_row": per_row, "like": like,
                                       "image_size": image_size, "external_data": external_data, "force": force})

    def export_onnx_inputs(self, task: str, file: StrPath, *, like: str = "", force: bool = False) -> dict[str, Any]:
        """Writes a task's inputs for such a graph as safetensors: coefficients, head_weight, head_bias."""
        return self._core.export_onnx_inputs(task, os.fspath(file), like, force)

    def report(self, file: StrPath, *, examples: int = 12, measure: bool = False, force: bool = False,
               progress: ProgressFunction | None = None) -> dict[str, Any]:
        """Writes one HTML page about the directory and its tasks: {file, bytes, tasks, notes}."""
        return self._core.report({"file": os.fspath(file), "examples": examples, "measure": measure, "force": force},
                                 forwarded(progress))

    def __repr__(self) -> str:
        return f"recast.ModelDirectory({self.path!r}: {self.config['architecture']}, {len(self.tasks)} tasks)"


def open(path: StrPath, *, device: str = "cpu", read_only: bool = False, store: str = "") -> ModelDirectory:
    """Opens a model directory: recast.ModelDirectory(path, ...)."""
    return ModelDirectory(path, device=device, read_only=read_only, store=store)
