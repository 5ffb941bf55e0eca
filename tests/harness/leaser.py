"""A process of its own that takes leases, told what to do by lines on its standard input."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.plan import Cell
from harness.results.record import failure, now
from harness.results.store import Lease, Leases, Outcome, Store, StoreError

ROOT = Path(__file__).resolve().parents[2]


class Leaser:
    """The process, seen from a test. ``ask`` gives the answer to one line: take, race, holds or write, and a cell."""

    def __init__(self, store: Path, beat: float, patience: float) -> None:
        command = [sys.executable, __file__, str(store), str(beat), str(patience)]
        where = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=where)

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.answer()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def take(leases: Leases, held: dict[str, Lease], cell: str) -> str:
    lease = leases.take(cell)
    if lease is not None:
        held[cell] = lease
    return "yes" if lease is not None else "no"


def race(leases: Leases, held: dict[str, Lease], cell_and_moment: str) -> str:
    """The clock that does not go back is one for all processes of a machine: they start together."""
    cell, _, moment = cell_and_moment.partition("@")
    time.sleep(max(0.0, float(moment) - time.monotonic()))
    return take(leases, held, cell)


def write(store: Store, cell: str, lease: Lease) -> str:
    empty = Cell(cell, "small", "steady", "digits", 0, (), {"budgets": [1.0]})
    try:
        store.write(Outcome(failure(empty, "failed", "late", began=now(), environment={})), lease)
    except StoreError as error:
        return f"{type(error).__name__} {error}"
    return "written"


def main(root: Path, beat: float, patience: float) -> None:
    store, held = Store(root), dict[str, Lease]()
    leases = store.leases(beat=beat, patience=patience)
    acts: dict[str, Callable[[str], str]] = {
        "take": lambda cell: take(leases, held, cell),
        "race": lambda cell: race(leases, held, cell),
        "holds": lambda cell: "yes" if held[cell].holds() else "no",
        "write": lambda cell: write(store, cell, held[cell]),
    }
    for line in sys.stdin:
        act, cell = line.split()
        sys.stdout.write(acts[act](cell) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
