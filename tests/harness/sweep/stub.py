"""``run_job`` of a cell without torch, in a tenth of a second.

What it does is the option ``act`` of its method. Its numbers are a pure function of the cell.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.jobs.job import Job, JobFolder
from harness.results import cell_files, record
from harness.results.cell_files import Outcome
from harness.results.record import PhaseCost, Point, Record
from harness.sweep import cell_job
from harness.sweep.cell_job import CellJob


def outcome(task: CellJob) -> Outcome:
    cell, n = task.cell, 64
    seedling = int(cell.id, 16)
    points, bitmaps = [], {}
    for index, budget in enumerate(task.suite.budgets):
        bits = (seedling * (2 * index + 1) % 2**n).to_bytes(8, "big")
        correct = int.from_bytes(bits, "big").bit_count()
        points.append(Point(budget=budget, status="ok", key=f"k{index}", macs=index, params=1, correct=correct, n=n))
        bitmaps[budget] = bits
    kept = Record(
        cell=cell.id, suite=cell.suite, method=cell.method, dataset=cell.dataset, seed=cell.seed,
        identity=dict(cell.content), status="ok", points=tuple(points), full_macs=10, choice_hash="0" * 16,
        given={name: dict(keys) for name, keys in task.given.items()}, ledger={"train": PhaseCost(forward_macs=5.0)},
        started=record.iso_time(record.now()), finished=record.iso_time(record.now()), seconds=0.1,
    )  # fmt: skip
    return Outcome(kept, bitmaps, outputs=b"as they are" if task.suite.metrics else b"")


def act(options: dict[str, object], folders: JobFolder) -> None:
    what = options.get("act", "ok")
    folders.progress.write_text('{"phase": "train", "done": 1, "total": 2}\n{"phase": "tr')
    (folders.work / "starts").open("a").write("x")
    print("a line of the log")
    if "count" in options:
        count(Path(str(options["count"])), folders.root.name)
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    first = len((folders.work / "starts").read_text()) == 1
    if what in ("hang", "stubborn") or (what == "hang-once" and first):
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (folders.work / "pids").write_text(f"{os.getpid()} {helper.pid}")
        time.sleep(60)
    if what in ("hoard", "fill"):
        BURDENS[what](folders, int(str(options["mib"])))
        (folders.work / "pids").write_text(str(os.getpid()))
        time.sleep(60)
    if what == "fill-away":
        with contextlib.suppress(OSError):
            (Path(str(options["to"])) / "ballast").write_bytes(b"x" * (8 << 20))
    if what == "loud":
        for _ in range(200):
            sys.stdout.write("x" * (1 << 20))
        sys.stdout.write("the end\n")
    if what == "exit":
        os._exit(int(str(options["code"])))
    if what == "signal":
        os.kill(os.getpid(), int(str(options["number"])))
    if what == "once" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(str(options.get("seconds", 0))))


def count(folder: Path, cell: str) -> None:
    """One file for each training: a second one of the same cell has a name that shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (cell, f"{cell}-again-{os.getpid()}"):
        try:
            os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL))
            return
        except FileExistsError:
            pass


def hoard(folders: JobFolder, mib: int) -> None:
    """Memory of two helpers in sessions of their own: no limit of one process would see it."""
    code = f"import time; kept = b'x' * ({mib // 2} << 20); time.sleep(60)"
    helpers = [subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(2)]
    (folders.work / "helper").write_text(" ".join(str(helper.pid) for helper in helpers))


def fill(folders: JobFolder, mib: int) -> None:
    (folders.work / "checkpoint").write_bytes(b"x" * (mib << 20))


BURDENS = {"hoard": hoard, "fill": fill}


def run_job(job: Job, folder: JobFolder) -> None:
    task = cell_job.task_of(job)
    options = dict(task.suite.method(task.cell.method).options)
    act(options, folder)
    if options.get("act") == "hostile":
        leave_harm(folder)
    made = outcome(task)
    if isinstance(forged := options.get("forge"), dict):
        first = made.record.points[0].model_copy(update=forged)
        made = Outcome(made.record.model_copy(update={"points": (first, *made.record.points[1:])}), made.bitmaps)
    leave(made, folder)


def leave_harm(folder: JobFolder) -> None:
    """A progress file that holds no numbers, and a record that whoever opens it would wait for. Never returns."""
    folder.progress.write_text('{"phase": "train", "done": Infinity, "total": 1}\n' + "[" * 50_000 + "\n")
    time.sleep(0.2)
    folder.result.mkdir()
    (folder.result / "sha256").write_text(
        "".join(f"{'0' * 64}  {n}\n" for n in ("cell.json", "record.json", "correct.npz"))
    )
    for name in ("cell.json", "correct.npz"):
        (folder.result / name).touch()
    os.mkfifo(folder.result / "record.json")
    os._exit(0)


def leave(made: Outcome, folder: JobFolder) -> None:
    cell_files.save_outcome(made, folder.out / "beside")
    (folder.out / "beside").rename(folder.result)
