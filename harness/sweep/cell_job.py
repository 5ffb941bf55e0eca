"""A cell as a job: what its process is sent, and what it leaves, which is not believed against arithmetic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from harness.jobs.job import Ending, Job, JobError, JobFolder, JobLimits
from harness.jobs.logs import scrubbed
from harness.plan import Cell
from harness.results.cell_files import Outcome, StoreError, load_outcome
from harness.results.record import Status
from harness.suite import Suite

ENTRY = "harness.evaluation.execute:run_job"
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node")


@checked_dataclass(frozen=True)
class CellJob:
    """``given``: method -> budget -> key. ``commit`` names the code. ``attempt`` and ``workers``: as those of a job.
    ``keep``: also leave what the method adapted.
    """

    cell: Cell
    suite: Suite
    given: Mapping[str, Mapping[str, str]]
    commit: str | None = None
    attempt: int = 1
    workers: int = 1
    keep: bool = False


_ADAPTER = TypeAdapter(CellJob)


class ImpossibleOutcome(ValueError):
    """Raised for a complete outcome that cannot be true."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def job_of(task: CellJob, entry: str, memory_gib: float | None, disk_gib: float) -> Job:
    suite = task.suite
    memory = None if memory_gib is None else 1024 * memory_gib
    return Job(
        id=task.cell.id,
        entry=entry,
        payload=_ADAPTER.dump_python(task, mode="json"),
        limits=JobLimits(suite.timeout_minutes * 60, memory, 1024 * disk_gib),
        title=task.cell.title,
        attempt=task.attempt,
        threads=suite.threads,
        launcher=(*LAUNCHER, str(suite.processes)) if suite.processes > 1 else (),
    )


def task_of(job: Job) -> CellJob:
    return replace(_ADAPTER.validate_json(json.dumps(job.payload)), attempt=job.attempt, workers=job.slots)


def earlier_start(folder: JobFolder, cell: Cell, given: Mapping[str, Mapping[str, str]]) -> int:
    """Number of starts of this cell, given the same choices, that have left their work in ``folder``."""
    try:
        job = folder.read()
    except JobError:
        return 0
    payload: Any = job.payload
    same = job.id == cell.id and isinstance(payload, dict) and payload.get("given") == given
    return job.attempt if same and isinstance(job.attempt, int) else 0


def outcome_of(cell: Cell, folder: JobFolder) -> Outcome:
    """Outcome that the cell left; StoreError if it cannot be read, ImpossibleOutcome if it cannot be right."""
    outcome = load_outcome(folder.result)
    record = outcome.record
    if record.cell != cell.id:
        raise ImpossibleOutcome("failed", f"the outcome is that of cell {record.cell}")
    if [point.budget for point in record.points] != list(cell.content["budgets"]):
        raise ImpossibleOutcome("failed", f"the outcome has points for {[point.budget for point in record.points]}")
    for point in record.points:
        where = f"budget {point.budget:g}"
        if point.correct is not None and not 0 <= point.correct <= (point.n or 0):
            reason = f"{where}: accuracy outside [0, 1]: {point.correct} correct of {point.n}"
            raise ImpossibleOutcome("nan", reason)
        wrong = {name: value for name, value in (point.scores or {}).items() if not 0 <= value <= 1}
        if wrong:
            raise ImpossibleOutcome("nan", f"{where}: scores outside [0, 1]: {wrong}")
        if min(point.macs or 0, point.params or 0) < 0:
            reason = f"{where}: negative size: {point.macs} MACs, {point.params} parameters"
            raise ImpossibleOutcome("failed", reason)
    return outcome


def judge(cell: Cell, folder: JobFolder, ending: Ending) -> Outcome | tuple[Status, str]:
    """The outcome of a cell that ended; where it left none that can be right, a status and the reason."""
    if ending.status != "ok":
        return ending.status, ending.reason
    try:
        return outcome_of(cell, folder)
    except ImpossibleOutcome as error:
        return error.status, str(error)
    except StoreError as error:
        return "failed", scrubbed(f"its outcome cannot be read: {error}")
