"""Entry of a worker process: run one cell and leave its outcome.

The only place that seeds global generators and sets torch's threads. Every way to fail becomes a status, except the
end of the process itself, which the sweep sees.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness import code_digest, plugins
from harness.data import loading
from harness.evaluation import check_names, diagnostics, evaluate, keep, measure, sanity_checks
from harness.evaluation.evaluate import Progress
from harness.evaluation.failures import (
    BackboneError,
    ChangedError,
    ProcessesError,
    failure_status,
    is_disk_full,
    peak_mib,
)
from harness.evaluation.ledger import CellLedger
from harness.jobs.job import Job, JobFolder
from harness.plan import Cell
from harness.protocol import Task
from harness.results import cell_files, kept_models, record
from harness.results.cell_files import Outcome
from harness.results.record import USABLE, PhaseCost, Record
from harness.suite import Input, Suite
from harness.sweep import cell_job
from harness.sweep.cell_job import CellJob
from harness.tasks import CLASSIFICATION, SEGMENTATION

LEDGER = "ledger.json"  # beside the checkpoints
INTERVAL = 0.2  # seconds between two lines of progress


class ProgressFile:
    """One JSON line for each step that is reported, at most five a second."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._last = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        if time.monotonic() - self._last >= INTERVAL:
            self._last = time.monotonic()
            self._file.write(json.dumps({"phase": phase, "done": int(done), "total": int(total)}) + "\n")
            self._file.flush()


def run_cell(task: CellJob, work: Path, progress: Progress, model: Path | None = None) -> Outcome:
    """The outcome of a cell, whatever happens in it short of the end of the process. ``model``: folder for what the
    method adapted, if it is to be kept.
    """
    began = record.now()
    try:
        return _run(task, work, progress, began, model)
    except Exception as error:  # a method may fail in any way it likes
        return failed_outcome(task, error, began)


def failed_outcome(task: CellJob, error: Exception, began: datetime) -> Outcome:
    """The outcome of a cell that raised this. To be called where it is handled."""
    traceback.print_exc()
    return Outcome(record.failed_record(task.cell, *failure_status(error), began=began, environment=_about(task)))


def run_job(job: Job, folder: JobFolder) -> int:
    """Run the cell of a job in this process, one of several that train it together where the suite says so."""
    task = cell_job.task_of(job)
    if _rank():
        return _run_beside(task, folder)
    model = folder.out / kept_models.FOLDER if task.keep else None
    _leave(run_cell(task, folder.work, ProgressFile(folder.progress), model), folder.result, folder)
    return 0


def _run_beside(task: CellJob, folder: JobFolder) -> int:
    """One of several processes, not the one that leaves the outcome: silent unless it fails."""
    name = f"rank{_rank()}"
    (folder.scratch / name).mkdir(exist_ok=True)
    os.chdir(folder.scratch / name)
    outcome = run_cell(task, folder.work, lambda phase, done, total: None)
    if outcome.record.status in USABLE:
        return 0
    _leave(outcome, folder.out / name / folder.result.name, folder)
    return 1


def _rank() -> int:
    """Rank of this process among those of the cell, as ``torchrun`` sets it."""
    return int(os.environ.get("RANK", "0"))


def _leave(outcome: Outcome, result: Path, folder: JobFolder) -> None:
    """Write the outcome as a whole; on a full disk once more, in place of what the cell wrote for itself."""
    beside = result.with_name(f"{result.name}.tmp")
    try:
        cell_files.save_outcome(outcome, beside)
    except OSError as error:
        if not is_disk_full(error):
            raise
        for path in (folder.scratch, folder.work):
            for left in path.iterdir():
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        cell_files.save_outcome(outcome, beside)
    beside.rename(result)


def _run(task: CellJob, work: Path, progress: Progress, began: datetime, model: Path | None) -> Outcome:
    suite, cell = task.suite, task.cell
    _settle(cell.seed, suite.threads)
    _same_processes(suite.processes)
    _same_code(task)
    progress("load", 0, 1)
    images = loading.load_dataset(suite.dataset(cell.dataset), suite.input)
    _same_data(cell, images.fingerprint)
    images.check_task(cell.dataset, suite.task)
    method = plugins.build(suite.method(cell.method).use, suite.method(cell.method).options)
    backbone = _backbone(task, images.num_classes)
    shape = (suite.input.channels, suite.input.size, suite.input.size)
    full_macs = measure.count_macs(fitting(backbone(), suite.input, images.num_classes, suite.task), shape)
    ledger = CellLedger(file=work / LEDGER if not _rank() else None)

    def report_progress(phase: str, done: int, total: int) -> None:
        ledger.tick()
        progress(phase, done, total)

    inputs = _task(task, images, backbone, full_macs, work, ledger, report_progress)
    adapted = method.adapt(inputs)
    progress("select", 0, 1)
    frozen = evaluate.freeze_choices(adapted, suite.budgets, full_macs, shape, suite.grid_budgets)
    measured, outputs = evaluate.MeasuredPoints(frozen.points, {}), b""
    report, notes = diagnostics.method_report(adapted)
    if frozen.choices and not _rank():  # one process is enough to test, and to be timed alone
        checks = sanity_checks.run_sanity_checks(adapted, frozen.declared, images.fit)
        report |= {check_names.DIAGNOSTICS_KEY: checks}
        test = images.test(frozen.hash)
        wanted = suite.budgets if suite.metrics else ()
        measured = evaluate.measure_choices(
            frozen, adapted, images.select_b, test, shape, suite.test_batch, progress, wanted, suite.latency_seconds
        )
        measured = evaluate.mark_suspicious(measured, checks)
        if measured.outputs:
            outputs, lost = cell_files.pack_outputs(test.labels.numpy(), measured.outputs)
            notes += lost
    notes += [*images.notes, *diagnostics.running_threads(), *evaluate.grid_notes(measured.grid)]
    report |= {diagnostics.NOTES: notes} if notes else {}
    result = _record(task, began, measured, frozen, full_macs, images, ledger, report)
    if model is not None and frozen.choices and not _rank():
        about = keep.model_description(task.suite, task.cell, images.classes, task.commit)
        keep.keep_model(adapted, model, inputs, about)
    return Outcome(result, measured.bitmaps, outputs=outputs)


def _same_processes(asked: int) -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes != asked:
        raise ProcessesError(f"the suite says processes = {asked}, and this cell runs in {processes} (WORLD_SIZE)")


def _same_code(task: CellJob) -> None:
    """Raise ChangedError unless the code here is that of the cell's id; another machine may have other files."""
    planned = task.cell.content.get("code")
    if not isinstance(planned, Mapping):
        return
    uses = {"backbone": task.suite.backbone.use, "method": task.suite.method(task.cell.method).use}
    for part, planned_digest in planned.items():
        use = uses.get(part, str(part))  # a part with another name is an import string in the method's options
        if code_digest.digest(use) != planned_digest:
            raise ChangedError(f"code: {use} is not what this cell was planned with: plan again, or run that code")


def _same_data(cell: Cell, actual: str) -> None:
    planned = cell.content.get("data")
    if isinstance(planned, str) and planned != actual:
        raise ChangedError(
            f"data: {cell.dataset!r} changed after planning: it was {planned[:12]} and is {actual[:12]}: plan again"
        )


def _settle(seed: int, threads: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # for libraries that draw from it
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


def _backbone(task: CellJob, num_classes: int) -> Callable[[], nn.Module]:
    spec, seed = task.suite.backbone, task.cell.seed
    make = plugins.backbone(spec.use, spec.options)

    def fresh() -> nn.Module:
        # The new head is random: the same for every method of this seed, whatever was drawn before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = make(num_classes=num_classes, **spec.options)
        if not isinstance(made, nn.Module):
            raise BackboneError(f"backbone.use = {spec.use!r}: gave {type(made).__name__}, not a torch module")
        return made

    return fresh


def fitting(backbone: nn.Module, images: Input, num_classes: int, task: str = CLASSIFICATION) -> nn.Module:
    """The backbone, after it was seen to give logits (2, num_classes) for two images of the suite's [input], or, of
    segmentation, (2, tokens, num_classes).
    """
    shape = (images.channels, images.size, images.size)
    try:
        with torch.no_grad():
            logits = backbone.eval()(torch.zeros(2, *shape))
    except Exception as error:  # whatever the module raises, the mismatch is what a person must hear of
        text = f"{type(error).__name__}: {error}"
        raise BackboneError(f"the backbone does not take images {shape} of [input]: {text}") from error
    dense = task == SEGMENTATION
    if not measure.are_logits(logits, 2, num_classes, dense=dense):
        wanted = f"(2, tokens, {num_classes}); set global_pool = ''" if dense else f"(2, {num_classes})"
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise BackboneError(f"the backbone gives {got} for 2 images of {num_classes} classes, not {wanted}")
    return backbone


def _task(
    task: CellJob,
    images: loading.LoadedDataset,
    backbone: Callable[[], nn.Module],
    full_macs: int,
    work: Path,
    ledger: CellLedger,
    progress: Progress,
) -> Task:
    return Task(
        fit=images.fit,
        select_a=images.select_a,
        select_b=images.select_b,
        backbone=backbone,
        full_macs=full_macs,
        budgets=task.suite.budgets,
        schedule=task.suite.schedule.model_dump(),
        seed=task.cell.seed,
        given={name: {float(b): key for b, key in keys.items()} for name, keys in task.given.items()},
        workdir=work,
        ledger=ledger,
        progress=progress,
        score=task.suite.score,
        train_macs=allowance(task.suite, len(images.fit), full_macs) if task.suite.regime == "equal_macs" else None,
    )


def allowance(suite: Suite, images: int, full_macs: int) -> float:
    """MACs that every method may spend in all (regime equal_macs): ``macs_factor`` times what the schedule costs when
    every step trains the full backbone, a backward pass counted as two forward ones.
    """
    schedule = suite.schedule
    return suite.macs_factor * 3.0 * full_macs * schedule.steps(images) * min(schedule.batch, images)


def _record(
    task: CellJob,
    began: datetime,
    measured: evaluate.MeasuredPoints,
    frozen: evaluate.FrozenChoices,
    full_macs: int,
    images: loading.LoadedDataset,
    ledger: CellLedger,
    report: dict[str, Any],
) -> Record:
    return record.ended_record(
        task.cell,
        *evaluate.cell_status(measured.points),
        measured.points,
        grid=measured.grid,
        began=began,
        environment=_about(task) | dict(measured.latency_noise),
        full_macs=full_macs,
        choice_hash=frozen.hash,
        data={
            "fingerprint": images.fingerprint,
            "sizes": dict(images.sizes),
            "classes": list(images.classes),
            **({"chance": dict(measured.chance)} if measured.chance else {}),
        },
        given={name: dict(keys) for name, keys in task.given.items()},
        ledger={name: PhaseCost.model_validate(cost.model_dump()) for name, cost in ledger.phases.items()},
        diagnostics=report,
        attempts=task.attempt,
        peak_mib=round(peak_mib(), 1),
    )


def _about(task: CellJob) -> dict[str, Any]:
    suite = task.suite
    return record.run_environment(suite.threads, task.commit, workers=task.workers, processes=suite.processes)
