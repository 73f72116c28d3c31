"""Labs: tasks learned by several recipes with several seeds, and the table that they make (docs/lab.md)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from . import _core
from .data import several
from .progress import ProgressFunction, forwarded

StrPath = str | os.PathLike[str]


def _settings(file: StrPath, overrides: Sequence[str] | str, out: StrPath | None,
              cells: Sequence[str] | str = ()) -> dict[str, Any]:
    return {"file": os.fspath(file), "overrides": several(overrides), "cells": several(cells),
            "out": None if out is None else os.fspath(out)}


def lab_run(file: StrPath, overrides: Sequence[str] | str = (), *, out: StrPath | None = None,
            cells: Sequence[str] | str = (), force: bool = False,
            progress: ProgressFunction | None = None) -> dict[str, Any]:
    """Does the cells of a lab file that are not done, one after another, as `recast lab run` does: learn, measure, write
    tables and plots.

    overrides: "key.key=value", each in place of what the file says. out: folder for the results, in place of the
    file's. cells: only those that match "TASK[/RECIPE[/SEED]]", with * and ? as in a shell. force: do them again, done or
    not. Returns what results.json holds: {title, tasks, rows, cells, counts: {cells, done, failed, left}, notes, ...};
    a cell that fails is counted and does not stop the others.

    Ctrl-C, or an exception of `progress`, stops after the step at hand; the next call goes on from there. Raises
    InvalidArgumentError (an unknown key, with the nearest), NotFoundError (models or data are missing; each is named by
    a warning), UnavailableError (another lab works in the same folder), KeyboardInterrupt.
    """
    settings = {**_settings(file, overrides, out, cells), "force": force, "command": f"python: lab_run {os.fspath(file)}"}
    return _core.run_lab(settings, forwarded(progress))


def lab_report(file: StrPath, overrides: Sequence[str] | str = (), *, out: StrPath | None = None) -> dict[str, Any]:
    """Makes tables and plots anew from the results that are there, and returns what lab_run() does. Learns nothing."""
    return _core.report_lab({**_settings(file, overrides, out), "command": f"python: lab_report {os.fspath(file)}"})


def lab_list(file: StrPath, overrides: Sequence[str] | str = (), *, out: StrPath | None = None,
             cells: Sequence[str] | str = ()) -> list[dict[str, Any]]:
    """What has become of every cell: [{task, recipe, seed, state: missing, begun, failed, changed (its settings differ)
    or done, scenario, top1, average, seconds, error}]. Reads neither models nor data."""
    return _core.list_lab(_settings(file, overrides, out, cells))["cells"]
