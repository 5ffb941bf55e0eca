"""Keeping of what a method adapted. Nothing here changes a result: it is called when all was measured."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.evaluation.failures import error_message
from harness.plan import Cell
from harness.protocol import Adapted, Task
from harness.results import kept_models
from harness.suite import Suite
from harness.tasks import ACCURACY


def model_description(suite: Suite, cell: Cell, classes: Sequence[str], commit: str | None) -> dict[str, Any]:
    """Facts that a method cannot know: class names, preprocessing by timm's names, and where it was trained."""
    images, method = suite.input, suite.method(cell.method)
    data = {
        "input_size": [images.channels, images.size, images.size],
        "mean": list(images.mean),
        "std": list(images.std),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "squash",  # whole images are resized, whatever their shape
    }
    origin = {
        "method": cell.method,
        "use": method.use,
        "options": dict(method.options),
        "suite": cell.suite,
        "dataset": cell.dataset,
        "cell": cell.id,
        "commit": commit,
    }
    return {"classes": list(classes), "data": data, "origin": origin}


def keep_model(adapted: Adapted, folder: Path, task: Task, about: Mapping[str, Any]) -> None:
    """Let the method write what it adapted; where it cannot, the folder holds the reason."""
    if task.score != ACCURACY:
        kept_models.leave_reason(folder, f"score {task.score}: kept models have an accuracy, as a classification has")
        return
    save = getattr(adapted, "save", None)
    if save is None:
        kept_models.leave_reason(folder, f"the method's answer ({type(adapted).__name__}) has no save()")
        return
    try:
        save(folder, task, about)
    except Exception as error:  # the cell is measured already: its result is kept whatever happens here
        traceback.print_exc()
        kept_models.leave_reason(folder, error_message(error))
