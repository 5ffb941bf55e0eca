"""``python -m tests.harness.stub JOBFOLDER OUTFOLDER``: a cell without torch, in a tenth of a second.

What it does is the option ``act`` of its method. Its numbers are a pure function of the cell.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness import job, record, store
from harness.lifeline import die_with_parent
from harness.record import Point, Record, Spent
from harness.store import Outcome


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
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if what in ("hang", "stubborn"):
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (folders.work / "pids").write_text(f"{os.getpid()} {helper.pid}")
        time.sleep(60)
    if what == "exit":
        os._exit(int(str(options["code"])))
    if what == "signal":
        os.kill(os.getpid(), int(str(options["number"])))
    if what == "once" and len((folders.work / "starts").read_text()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(str(options.get("seconds", 0))))


def main() -> None:
    die_with_parent()
    folders = job.Folders(Path(sys.argv[1]))
    task = job.read(folders.job)
    act(dict(task.suite.method(task.cell.method).options), folders)
    store.save(outcome(task), folders.out / "beside")
    (folders.out / "beside").rename(Path(sys.argv[2]) / job.OUTCOME)


if __name__ == "__main__":
    main()
