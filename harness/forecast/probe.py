"""``python -m harness.forecast.probe JOBFOLDER OUTFOLDER``: run one cell with few steps and write down its course.

The same cell as :mod:`harness.evaluation.execute` runs, in all but the length of its schedule: prepared, searched and
tested in full. Its record's ``diagnostics`` hold, under ``probe``, what :mod:`harness.forecast.probing` extrapolates.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from harness.data import loading
from harness.evaluation import execute
from harness.evaluation.evaluate import Progress
from harness.execution.job import Job
from harness.results import record
from harness.results.store import Outcome

MIB = 2.0**20


class Course:
    """Every call of a cell's ``progress``, with its time, and the largest size of the work folder; passed on."""

    def __init__(self, work: Path, progress: Progress) -> None:
        self.work, self.progress, self.began, self.mib = work, progress, time.monotonic(), 0.0
        self.calls: list[tuple[float, str, int, int]] = []

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.calls.append((time.monotonic() - self.began, phase, int(done), int(total)))
        self.mib = max(self.mib, folder_mib(self.work))
        self.progress(phase, done, total)


def main(arguments: list[str]) -> int:
    return execute.main(arguments, sound)


def sound(task: Job, work: Path, progress: Progress) -> Outcome:
    """The outcome of the shortened cell. ``content["probe"]["steps"]`` of the cell says how short."""
    began = record.now()
    try:
        images = _fit_images(task)
    except Exception as error:  # as in a real cell: whatever reading raises is the cell's status
        return execute.blamed(task, error, began)
    wanted = int(task.cell.content["probe"]["steps"])
    course = Course(work, progress)
    outcome = execute.run_cell(_shortened(task, images, wanted), work, course)
    seconds = time.monotonic() - course.began
    full = task.suite.schedule.steps(images)
    told: dict[str, Any] = {
        "steps": min(wanted, full), "full": full, "seconds": seconds, "mib": course.mib, "calls": course.calls
    }  # fmt: skip
    kept = outcome.record.model_copy(update={"diagnostics": {"probe": told}})
    return Outcome(kept, outcome.bitmaps, outcome.log)


def _fit_images(task: Job) -> int:
    """A suite that names the number is believed: reading twice would warm what a real cell finds cold."""
    entry = task.suite.dataset(task.cell.dataset)
    return entry.fit if entry.fit is not None else len(loading.load(entry, task.suite.input).fit)


def _shortened(task: Job, images: int, steps: int) -> Job:
    schedule = task.suite.schedule
    fewer = min(schedule.epochs, steps / schedule.per_epoch(images))
    suite = task.suite.model_copy(update={"schedule": schedule.model_copy(update={"epochs": fewer})})
    return Job(**{**vars(task), "suite": suite})


def folder_mib(folder: Path) -> float:
    """Size of all files in it; one that goes while it is looked at counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total / MIB


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
