"""``python -m tests.harness.stub JOBFOLDER OUTFOLDER``: a cell without torch, in a tenth of a second.

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

from harness.execution import job
from harness.processes.lifeline import die_with_parent
from harness.results import record, store
from harness.results.record import Point, Record, Spent
from harness.results.store import Outcome


def outcome(task: job.Job) -> Outcome:
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
        given={name: dict(keys) for name, keys in task.given.items()}, ledger={"train": Spent(forward_macs=5.0)},
        started=record.stamp(record.now()), finished=record.stamp(record.now()), seconds=0.1,
    )  # fmt: skip
    return Outcome(kept, bitmaps)


def act(options: dict[str, object], folders: job.Folders) -> None:
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


def hoard(folders: job.Folders, mib: int) -> None:
    """Memory of a helper, in a session of its own: no limit of this process would see it."""
    code = f"import time; kept = b'x' * ({mib} << 20); time.sleep(60)"
    helper = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    (folders.work / "helper").write_text(str(helper.pid))


def fill(folders: job.Folders, mib: int) -> None:
    (folders.work / "checkpoint").write_bytes(b"x" * (mib << 20))


BURDENS = {"hoard": hoard, "fill": fill}


def main() -> None:
    die_with_parent()
    folders = job.Folders(Path(sys.argv[1]))
    task = job.read(folders.job)
    act(dict(task.suite.method(task.cell.method).options), folders)
    made = outcome(task)
    forged = task.suite.method(task.cell.method).options.get("forge")
    if isinstance(forged, dict):
        first = made.record.points[0].model_copy(update=forged)
        made = Outcome(made.record.model_copy(update={"points": (first, *made.record.points[1:])}), made.bitmaps)
    store.save(made, folders.out / "beside")
    (folders.out / "beside").rename(Path(sys.argv[2]) / job.OUTCOME)


if __name__ == "__main__":
    main()
