"""The task store of a model directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from . import _core
from .errors import NotFoundError
from .task import Task


class Tasks:
    """Every version of every task: what `recast tasks DIR ...` does. Where a version matters, `task` is "NAME" (the
    newest), "NAME:VERSION" or "NAME:TAG".

    `model.tasks["pets"]` loads a task, `"pets" in model.tasks` looks, iterating gives names. All calls raise
    NotFoundError with the nearest name, UnavailableError (disk, another writer), DataCorruptionError.
    """

    def __init__(self, core: _core.ModelDirectory) -> None:
        self._core = core

    def __getitem__(self, task: str) -> Task:
        return Task(self._core.load(task))

    def __contains__(self, task: object) -> bool:
        if not isinstance(task, str):
            return False
        try:
            _core.show_task(self._core, task)
        except NotFoundError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter([row["task"] for row in self.list()])

    def __len__(self) -> int:
        return len(self.list())

    def list(self, with_removed: bool = False) -> list[dict[str, Any]]:
        """The newest version of each: [{task, version, versions, tags, removed, classes, plugs, state_bytes, file_bytes,
        created_utc, validation_top1, test_top1}]."""
        return _core.list_tasks(self._core, with_removed)["tasks"]

    def show(self, task: str) -> dict[str, Any]:
        """{task, version, parent, created_utc, fingerprint, labels, plugs, recipe, data, metrics, follows, numbers:
        [{plug, scope, name, dtype, shape, values}]}."""
        return _core.show_task(self._core, task)

    def log(self, task: str) -> list[dict[str, Any]]:  # type: ignore[valid-type]
        """All versions, oldest first, each as in list()."""
        return _core.log_task(self._core, task)["versions"]

    def diff(self, a: str, b: str) -> dict[str, Any]:
        """{a, b, equal, labels_equal, plugs_equal, numbers: [{plug, name, in, equal, largest_difference}]}."""
        return _core.diff_tasks(self._core, a, b)

    def tag(self, task: str, tag: str, *, force: bool = False) -> dict[str, Any]:
        """Gives a version a name; force: takes it from another version."""
        return _core.tag_task(self._core, task, tag, force)

    def untag(self, task: str, tag: str) -> dict[str, Any]:
        """Removes a tag; the version stays."""
        return _core.untag_task(self._core, task, tag)

    def tags(self, task: str) -> dict[str, int]:
        """{tag: version}."""
        return {row["tag"]: row["version"] for row in _core.list_tags(self._core, task)["tags"]}

    def rollback(self, task: str, version: int | str = "") -> dict[str, Any]:
        """Stores a copy of an old version (number or tag) as the newest; without one shows a removed task again.
        Returns {task, version, copy_of}."""
        return _core.rollback_task(self._core, task, str(version))

    def remove(self, task: str, *, purge: bool = False) -> dict[str, Any]:
        """Hides a task; purge: erases all its versions."""
        return _core.remove_task(self._core, task, purge)

    def export(self, task: str, file: str | os.PathLike[str], *, format: str = "recast", names: str = "",
               base_model: str = "", force: bool = False) -> dict[str, Any]:
        """Writes a task file; format "peft": an adapter folder of HF PEFT with the module names of `names` (timm,
        transformers, transformers4; docs/peft.md). Raises AlreadyExistsError without force."""
        if format == "peft":
            return _core.export_peft_folder(self._core, task, os.fspath(file), names, base_model, force)
        if format != "recast":
            _core.raise_error("invalid_argument", f"[tasks] format must be recast or peft, got '{format}'")
        return _core.export_task(self._core, task, os.fspath(file), force)

    def import_(self, file: str | os.PathLike[str], name: str = "", *,
                labels: str | os.PathLike[str] = "") -> dict[str, Any]:
        """Reads a task file or an adapter folder of HF PEFT, checks it against this backbone and stores it. labels: a
        text file for a folder's classes. Raises ShapeMismatchError for another backbone."""
        return _core.import_task(self._core, os.fspath(file), name, os.fspath(labels))

    def collect_garbage(self) -> int:
        """Removes files that no version needs (left by a crash); returns their bytes."""
        return _core.collect_garbage(self._core)["bytes"]

    def __repr__(self) -> str:
        return f"recast.Tasks({', '.join(self)})"
