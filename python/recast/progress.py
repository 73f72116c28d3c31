"""What long calls report while they go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal


class RecastWarning(UserWarning):
    """Something that makes figures doubtful, such as the same image in training and test."""


@dataclass(frozen=True)
class Progress:
    """One report.

    event    "stage" (text: its name, total: its steps), "step" (done of total), "epoch" (figures: epoch, stage,
             train_loss, eval_loss, eval_top1, lr, seconds, skipped_steps), "note" and "warning" (text).
    """

    event: Literal["stage", "step", "epoch", "note", "warning"]
    text: str = ""
    done: int = 0
    total: int = 0
    figures: dict[str, Any] = field(default_factory=dict)


#: A function that is called with each report, on the calling thread. What it raises ends the call after the step at
#: hand, and comes out of the call.
ProgressFunction = Callable[[Progress], object]


def forwarded(progress: ProgressFunction | None) -> Callable[..., object] | None:
    """The function that the C++ side calls."""
    if progress is None:
        return None
    return lambda event, text, done, total, figures: progress(Progress(event, text, done, total, figures or {}))


class _Printer:
    """Lines for epochs, notes and warnings; a counter of steps where a person watches."""

    def __init__(self) -> None:
        self.shown = 0.0

    def __call__(self, report: Progress) -> None:
        if report.event == "epoch":
            f = report.figures
            print(f"{f['stage']} epoch {f['epoch']}: train loss {f['train_loss']:.4f}, validation loss "
                  f"{f['eval_loss']:.4f}, top1 {f['eval_top1']:.4f}, {f['seconds']:.1f} s", flush=True)
        elif report.event in ("note", "warning"):
            print(report.text, flush=True)
        elif report.event == "step" and sys.stderr.isatty() and time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            print(f"\r{report.done}/{report.total} ", end="", file=sys.stderr, flush=True)


def print_progress() -> ProgressFunction:
    """A `progress` that prints epochs, notes and warnings: `model.learn(..., progress=recast.print_progress())`."""
    return _Printer()
