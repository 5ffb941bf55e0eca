"""``run_job`` of a cell that takes milliseconds, goes on from its checkpoint, marks what it does, and may die on order.

Its numbers hang on every step that it made, so a cell that lost or repeated one has other points. Marks, in
``<place>/marks``: ``<cell>.<n>`` for its n-th start; ``again-*`` if it was trained although the store had it whole;
``beside-*`` if another process of a living run trained it at the same time; ``orphan-*`` if one of a dead run lived on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import time
from pathlib import Path

import psutil

from harness.jobs.files import write_atomic
from harness.jobs.job import Job, JobFolder
from harness.results import cell_files, record
from harness.results.cell_files import Outcome
from harness.results.record import USABLE, PhaseCost, Point, Record
from harness.sweep import cell_job
from harness.sweep.cell_job import CellJob
from tests.faults import killing, moments

STEPS = 5
PATIENCE = 5.0  # seconds that a child may outlive its run


def run_job(job: Job, folder: JobFolder) -> None:
    place, cell = folder.root.parents[2], folder.root.name
    start = begin(place / "marks", cell)
    doom(place, folder.root, cell, start)
    task = cell_job.task_of(job)
    alone(place / "marks", cell)
    if there(place / "results" / task.suite.name / "cells" / cell):
        (place / "marks" / f"again-{cell}-{start}").touch()
    final = train(task, folder)
    beside = folder.out / "beside"
    cell_files.save_outcome(outcome(task, final), beside)
    beside.rename(folder.result)


def begin(marks: Path, cell: str) -> int:
    number = 0
    while True:
        try:
            handle = os.open(marks / f"{cell}.{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            number += 1
        else:
            supervisor = os.getppid()
            named = [os.getpid(), supervisor, psutil.Process(supervisor).ppid()]
            os.write(handle, " ".join(map(moments.name, named)).encode())
            os.close(handle)
            return number


def doom(place: Path, folder: Path, cell: str, start: int) -> None:
    """Arrange this process's death, if ``chaos.json`` says so: {"seed": int, "share": how many of all starts die}."""
    try:
        told = json.loads((place / "chaos.json").read_text())
    except OSError:
        return
    draw = random.Random(f"{told['seed']} {cell} {start}")
    if draw.random() >= told["share"]:
        return
    if draw.random() < 0.2:
        killing.after(draw.uniform(0, 0.03), place / "kills", "cell")
    else:
        killing.at_operation(draw.randint(1, 36), folder, place / "kills", "cell", torn=draw.random() < 0.5)


def alone(marks: Path, cell: str) -> None:
    """Hold the cell's lock as long as this process lives. Whoever holds it already must be about to die."""
    handle = os.open(marks / f"{cell}.lock", os.O_RDWR | os.O_CREAT)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if moments.pid_of(os.pread(handle, 100, 0).decode().strip()) is not None:
                (marks / f"beside-{cell}-{os.getpid()}").touch()
            if time.monotonic() > until:
                (marks / f"orphan-{cell}-{os.getpid()}").touch()
                break
            time.sleep(0.01)
    os.pwrite(handle, os.environ["EAVIT_RUN"].ljust(100).encode(), 0)


def there(folder: Path) -> bool:
    try:
        return cell_files.load_outcome(folder).record.status in USABLE
    except cell_files.StoreError:
        return False


def train(task: CellJob, folders: JobFolder) -> str:
    """A chain of hashes, one link a step, kept after each."""
    kept = folders.work / "state.json"
    state = json.loads(kept.read_text()) if kept.exists() else {"step": 0, "link": task.cell.id}
    folders.progress.touch()
    while state["step"] < STEPS:
        link = hashlib.sha256(f"{state['link']} {state['step']} {task.given}".encode()).hexdigest()
        state = {"step": state["step"] + 1, "link": link}
        time.sleep(0.001)
        write_atomic(kept, json.dumps(state).encode())
        with folders.progress.open("a") as file:
            file.write(json.dumps({"phase": "train", "done": state["step"], "total": STEPS}) + "\n")
    return str(state["link"])


def outcome(task: CellJob, link: str) -> Outcome:
    cell, points, bitmaps = task.cell, [], {}
    for index, budget in enumerate(task.suite.budgets):
        bits = bytes.fromhex(link)[8 * index : 8 * index + 8]
        right = int.from_bytes(bits, "big").bit_count()
        points.append(
            Point(budget=budget, status="ok", key=f"k{link[:6]}", macs=index + 1, params=1, correct=right, n=64)
        )
        bitmaps[budget] = bits
    moment = record.iso_time(record.now())
    kept = Record(
        cell=cell.id, suite=cell.suite, method=cell.method, dataset=cell.dataset, seed=cell.seed,
        identity=dict(cell.content), status="ok", points=tuple(points), full_macs=10, choice_hash=link[:16],
        given={name: dict(keys) for name, keys in task.given.items()}, ledger={"train": PhaseCost(forward_macs=5.0)},
        data={"classes": [str(n) for n in range(10)]}, started=moment, finished=moment, seconds=0.01,
    )  # fmt: skip
    return Outcome(kept, bitmaps)
