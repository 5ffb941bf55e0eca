"""``python -m harness.pricing.probe JOBFOLDER OUTFOLDER``: run one cell with few steps and write down its course.

The same cell as :mod:`harness.execution.execute` runs, in all but the length of its schedule: prepared, searched and
tested in full. Its record's ``diagnostics`` hold, under ``probe``, what :mod:`harness.pricing.soundings` extrapolates.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from harness.datasets import data
from harness.execution import execute, job
from harness.execution.job import Folders, Job
from harness.processes import bounds
from harness.processes.lifeline import die_with_parent
from harness.records import record, store
from harness.records.record import USABLE
from harness.records.store import Outcome
from harness.suite import Schedule

MIB = 2.0**20


class Course:
    """Every call of a cell's ``progress``, with its time, and the largest size of the work folder."""

    def __init__(self, work: Path) -> None:
        self.work, self.began, self.mib = work, time.monotonic(), 0.0
        self.calls: list[tuple[float, str, int, int]] = []

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.calls.append((time.monotonic() - self.began, phase, int(done), int(total)))
        self.mib = max(self.mib, folder_mib(self.work))


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m harness.pricing.probe JOBFOLDER OUTFOLDER\n")
        return 2
    die_with_parent()
    folders, out = Folders(Path(arguments[0])), Path(arguments[1])
    task = job.read(folders.job)
    if task.memory_mib is not None:
        bounds.limit_data(task.memory_mib)
    outcome = sound(task, folders.work)
    if os.environ.get("RANK", "0") != "0":  # one of several processes that train a cell together: another one tells
        return 0 if outcome.record.status in USABLE else 1
    beside = out / f"{job.OUTCOME}.tmp"
    store.save(outcome, beside)
    beside.rename(out / job.OUTCOME)
    return 0


def sound(task: Job, work: Path) -> Outcome:
    """The outcome of the shortened cell. ``content["probe"]["steps"]`` of the cell says how short."""
    began = record.now()
    try:
        images = _fit_images(task)
    except Exception as error:  # as in a real cell: whatever reading raises is the cell's status
        traceback.print_exc()
        about = record.environment(task.suite.threads, task.commit)
        return Outcome(record.failure(task.cell, *execute.blame(error), began=began, environment=about))
    wanted = int(task.cell.content["probe"]["steps"])
    course = Course(work)
    outcome = execute.run_cell(_shortened(task, images, wanted), work, course)
    seconds = time.monotonic() - course.began
    full = _steps(task.suite.schedule, images)
    told: dict[str, Any] = {
        "steps": min(wanted, full), "full": full, "seconds": seconds, "mib": course.mib, "calls": course.calls
    }  # fmt: skip
    kept = outcome.record.model_copy(update={"diagnostics": {"probe": told}})
    return Outcome(kept, outcome.bitmaps, outcome.log)


def _fit_images(task: Job) -> int:
    """A suite that names the number is believed: reading twice would warm what a real cell finds cold."""
    entry = task.suite.dataset(task.cell.dataset)
    return entry.fit if entry.fit is not None else len(data.load(entry, task.suite.input).fit)


def _per_epoch(schedule: Schedule, images: int) -> int:
    return max(1, images // schedule.batch)


def _steps(schedule: Schedule, images: int) -> int:
    """Short last batches are dropped, as :mod:`harness.protocol` says of ``batches``."""
    return max(1, round(schedule.epochs * _per_epoch(schedule, images)))


def _shortened(task: Job, images: int, steps: int) -> Job:
    schedule = task.suite.schedule
    fewer = min(schedule.epochs, steps / _per_epoch(schedule, images))
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
