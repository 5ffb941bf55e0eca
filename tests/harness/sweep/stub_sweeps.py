"""What tests of sweeps share: runs of stubs (tests/harness/sweep/stub.py), here or in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import plan
from harness.jobs.job import JobProgress
from harness.jobs.processes import alive
from harness.plan import Cell
from harness.results.points import point_rows
from harness.results.record import Status
from harness.results.store import Store
from harness.suite import Suite
from harness.sweep import sweep
from harness.sweep.cell_job import ENTRY
from harness.sweep.pending import Settings
from harness.sweep.sweep import Summary
from tests.harness import small

ROOT = Path(__file__).resolve().parents[3]
STUB = "tests.harness.sweep.stub:run_job"

DRIVER = """
import json, sys
from pathlib import Path
from tests.harness.sweep.stub_sweeps import Heard, run, stubs
import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)
summary = run(stubs(*json.loads(sys.argv[2]), seeds=[0, 1]), Path(sys.argv[1]))
print(summary.interrupted, len(summary.records), flush=True)
"""

SECOND = """
import json, sys
from pathlib import Path
from tests.harness.sweep.stub_sweeps import Heard, run, stubs
folder, methods, options = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
summary = run(stubs(*methods, seeds=options.pop("seeds", [0, 1])), folder, **options)
print(json.dumps([sorted(summary.records), summary.ran, summary.elsewhere]), flush=True)
"""


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: dict[str, Status] = {}
        self.steps: list[JobProgress] = []
        self.most = 0

    def begin(self, todo: Sequence[Cell], kept: int) -> None:
        self.todo, self.kept = [cell.method for cell in todo], kept

    def start(self, cell: Cell) -> None:
        self.started.append(cell.method)
        self.most = max(self.most, len(self.started) - len(self.ended))

    def step(self, cell: Cell, step: JobProgress) -> None:
        self.steps.append(step)

    def finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None:
        self.ended[cell.method] = status

    def tick(self) -> None:
        pass


def stubs(*methods: dict[str, Any], **changes: Any) -> Suite:
    return small.suite(methods=list(methods), **changes)


def cells_of(suite: Suite) -> tuple[Cell, ...]:
    """Its cells, known by names alone: nothing of code and data is there to be compared when they run."""
    cells = plan.cells(suite, small.prints(suite))
    return tuple(
        replace(cell, content={key: value for key, value in cell.content.items() if key not in ("code", "data")})
        for cell in cells
    )


def run(suite: Suite, folder: Path, heard: Heard | None = None, **settings: Any) -> Summary:
    store = Store(folder / "results", warn=lambda text: None)
    store.prepare()
    chosen = {"workers": 2, "entry": STUB, "fork": settings.get("entry") == ENTRY, **settings}
    return sweep.run(suite, cells_of(suite), store, Settings(folder / "runs", **chosen), heard or Heard())


def driver(folder: Path, *methods: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A run in a process of its own, to be interrupted or killed."""
    command = [sys.executable, "-c", DRIVER, str(folder), json.dumps(methods)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)


def runner(folder: Path, methods: list[dict[str, Any]], **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SECOND, str(folder), json.dumps(methods), json.dumps(options)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)


def statuses(summary: Summary) -> dict[str, str]:
    return {record.method: record.status for record in summary.records.values()}


def rows(suite: Suite, folder: Path) -> list[dict[str, Any]]:
    volatile = ("train_seconds", "latency_ms")
    found = point_rows(cells_of(suite), Store(folder / "results").records())
    return [{key: value for key, value in row.items() if key not in volatile} for row in found]


def wait_for(path: Path, seconds: float = 60.0) -> str:
    until = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        if time.monotonic() > until:
            raise TimeoutError(path)
        time.sleep(0.02)
    return path.read_text()


def gone(pids: Iterable[int], seconds: float = 60.0) -> bool:
    """Whether all these processes end, waited for as long as a busy machine may need."""
    until = time.monotonic() + seconds
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.02)
    return not left
