"""A stored task as a function of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from . import _core
from .data import Preprocessing, preprocessing_of, several


class Task:
    """One version of a task over its frozen backbone: `logits = task(pixels)`.

    Made by `model.tasks["NAME"]`. A value: nothing that is done with it changes what is stored. Threads: calls may run
    in parallel; the interpreter's lock is released while the network runs.
    """

    def __init__(self, core: _core.Task) -> None:
        self._core = core
        self._record = core.record

    @property
    def name(self) -> str:
        """As it is called in the store."""
        return self._record["task"]

    @property
    def version(self) -> int:
        """1, 2, ..."""
        return self._record["version"]

    @property
    def labels(self) -> list[str]:
        """Column c of the logits stands for labels[c]."""
        return self._record["labels"]

    @property
    def record(self) -> dict[str, Any]:
        """{task, version, labels, plugs, recipe, metrics, data, fingerprint, created_utc}."""
        return self._record

    @property
    def preprocessing(self) -> Preprocessing:
        """The backbone's, at the image size that the task was learned with."""
        return preprocessing_of(self._core.preprocessing)

    def __call__(self, pixels: Tensor, *, bf16: bool = False) -> Tensor:
        """Logits float32 [B, C] of normalised pixels, floating [B, 3, H, W]. Differentiable in pixels and in what
        with_numbers() put in; under torch.no_grad() nothing is recorded. bf16: matrix products in bfloat16.

        Raises ShapeMismatchError, InvalidArgumentError.
        """
        return self._core.forward(pixels, bf16, [], True)["logits"]

    def features(self, pixels: Tensor, *, bf16: bool = False) -> Tensor:
        """Features float32 [B, D] that the head reads, of floating [B, 3, H, W]."""
        return self._core.forward(pixels, bf16, [], False)["features"]

    def forward(self, pixels: Tensor, *, taps: Sequence[str] | str = (), bf16: bool = False) -> dict[str, Tensor]:
        """{"features": [B, D], "logits": [B, C], "tap.SLOT": the output of each slot named in `taps`}; a vision
        transformer's block gives [B, T, D], a convolutional one's [B, C, H, W]. `model.inspect()["slots"]` lists
        names."""
        return self._core.forward(pixels, bf16, several(taps), True)

    def head(self, features: Tensor) -> Tensor:
        """Logits float32 [B, C] of floating features [B, D]; the backbone is not run."""
        return self._core.logits_of_features(features)

    def numbers(self) -> dict[str, Any]:
        """What the task has learned: {"PLUG.family@slot": Tensor, or int, float, str}. Tensors share memory with the
        task: clone() before writing."""
        return self._core.numbers()

    def with_numbers(self, numbers: Mapping[str, Tensor]) -> Task:
        """A copy with these tensors in place of its own of the same names, shapes and dtypes. Gradients flow into
        them, so that a task can be trained from Python:

            c = {name: t.clone().requires_grad_() for name, t in task.numbers().items()}
            loss = cross_entropy(task.with_numbers(c)(pixels), labels)

        Raises NotFoundError, ShapeMismatchError.
        """
        return Task(self._core.with_numbers(dict(numbers)))

    def weights(self) -> dict[str, Tensor]:
        """The effective float32 weights and vectors of the task's network by slot."""
        return self._core.weights()

    def commit(self, name: str = "") -> int:
        """Stores the numbers as the next version of this task, or of `name`; returns the version. Recipe and figures
        stay those of the original."""
        return self._core.commit(name)

    def __repr__(self) -> str:
        return f"recast.Task({self.name!r}, version {self.version}: {len(self.labels)} classes, " + " + ".join(
            self._record["plugs"]) + ")"
