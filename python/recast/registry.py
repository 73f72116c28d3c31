"""What the library knows by name, and what it runs on."""

from __future__ import annotations

import os
from typing import Any

from . import _core


def methods(name: str = "") -> list[dict[str, Any]]:
    """Every plug-in, or the one named: {name, summary, paper, roles, claims, needs, suggested_rate, options: [{name,
    type, default, range, choices, help}], families: [{name, scope, trains}]}. `recast.plugs` has a function for each.

    Raises InvalidArgumentError with the nearest name.
    """
    return _core.describe_methods(name)["methods"]


def recipes() -> list[dict[str, Any]]:
    """Every recipe: {name, summary, plugs, epochs, batch_size, lr, head_lr, weight_decay, clip_norm, augmentation,
    fit_head, bf16, seeds}."""
    return _core.describe_methods("")["recipes"]


def architectures() -> list[str]:
    """Names that `import_checkpoint` takes."""
    return _core.architecture_names()


def solvers() -> list[str]:
    """Names that `mimic` takes as its solver."""
    return _core.solvers()


def machine() -> dict[str, Any]:
    """{cpu, cores, threads, isa, flags} of this machine; torch.set_num_threads() decides about threads."""
    return _core.machine()


def versions() -> dict[str, str]:
    """{recast, torch}."""
    return _core.versions()


def doctor(directory: str | os.PathLike[str] = "", *, store: str = "") -> dict[str, Any]:
    """What `recast doctor` finds out about this machine and, if named, a model directory. store: the tasks of this
    database, postgresql://USER@HOST/DATABASE, instead of the directory's own. Changes nothing."""
    return _core.doctor(os.fspath(directory), store)


def log_to(file: str | os.PathLike[str] = "", level: str = "info", format: str = "json") -> None:
    """Appends log events of `level` (debug, info, warn, error) and above to a file, as "json" or "text" lines; level
    "off" ends that. docs/logging.md lists the events."""
    _core.set_log(level, os.fspath(file), format)
