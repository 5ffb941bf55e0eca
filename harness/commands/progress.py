"""Progress of a suite: bars in a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.jobs.job import JobProgress
from harness.plan import Cell
from harness.results.record import USABLE, Status

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET = 30.0  # seconds without a line after which the plain report says that it is alive


@dataclass
class Tally:
    """Counts, and the time left: what each method took so far, for what is left of it, over the workers."""

    workers: int
    clock: Callable[[], float] = time.monotonic
    left: dict[str, Cell] = field(default_factory=dict)
    total: int = 0
    kept: int = 0
    states: Counter[str] = field(default_factory=Counter)
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    began: dict[str, float] = field(default_factory=dict)

    def begin(self, todo: Sequence[Cell], kept: int) -> None:
        self.left, self.total, self.kept = {cell.id: cell for cell in todo}, len(todo), kept

    def start(self, cell: Cell) -> None:
        if cell.id not in self.left:
            self.total, self.left[cell.id] = self.total + 1, cell
        self.began[cell.id] = self.clock()

    def finish(self, cell: Cell, status: Status, seconds: float) -> None:
        self.left.pop(cell.id, None)
        here = self.began.pop(cell.id, None) is not None  # else another run did it, or nobody
        self.states[status] += 1
        if status in USABLE and here:
            self.took[cell.method].append(seconds)

    @property
    def done(self) -> int:
        return sum(self.states.values())

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.states.items() if status not in USABLE)

    def seconds_left(self) -> float | None:
        """None as long as no cell is done."""
        known = [seconds for each in self.took.values() for seconds in each]
        if not known:
            return None
        mean, now, total, longest = sum(known) / len(known), self.clock(), 0.0, 0.0
        for cell in self.left.values():
            took = self.took.get(cell.method)
            expected = sum(took) / len(took) if took else mean
            rest = max(0.0, expected - (now - self.began.get(cell.id, now)))
            total, longest = total + rest, max(longest, rest)
        return max(longest, total / self.workers)

    def __str__(self) -> str:
        left = self.seconds_left()
        parts = [f"{self.done}/{self.total} cells", f"{len(self.began)} running"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.kept} kept"] if self.kept else []
        return " · ".join([*parts, f"about {clock_text(left)} left" if left is not None else "time left unknown"])


def clock_text(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02d}"
    )


class Lines:
    """Plain lines: one for each cell that ends, and one every half minute in between."""

    def __init__(self, tally: Tally, say: Callable[[str], None]) -> None:
        self._tally, self._say, self._last = tally, say, tally.clock()
        self._steps: dict[str, str] = {}

    def begin(self, todo: Sequence[Cell], kept: int) -> None:
        self._tally.begin(todo, kept)

    def start(self, cell: Cell) -> None:
        self._tally.start(cell)

    def step(self, cell: Cell, step: JobProgress) -> None:
        self._steps[cell.id] = f"{cell.title}: {step.phase} {step.done}/{step.total}"

    def finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None:
        self._steps.pop(cell.id, None)
        self._tally.finish(cell, status, seconds)
        why = f": {reason}" if reason else ""
        self._line(f"{status:<11} {cell.title} ({clock_text(seconds)}){why}  [{self._tally}]")

    def tick(self) -> None:
        if self._tally.clock() - self._last >= QUIET and self._tally.left:
            self._line("; ".join([f"at work [{self._tally}]", *self._steps.values()]))

    def _line(self, text: str) -> None:
        self._last = self._tally.clock()
        self._say(text)


class ProgressBars:
    """Rich bars: the suite on top, a line for each running cell below it."""

    def __init__(self, tally: Tally, progress: Progress) -> None:
        self._tally, self._progress = tally, progress
        self._suite: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._phase: dict[str, tuple[str, float]] = {}

    def begin(self, todo: Sequence[Cell], kept: int) -> None:
        self._tally.begin(todo, kept)
        self._suite = self._progress.add_task("suite", total=len(todo), detail=str(self._tally))

    def start(self, cell: Cell) -> None:
        self._tally.start(cell)
        self._tasks[cell.id] = self._progress.add_task(cell.title, total=None, detail="starting")

    def step(self, cell: Cell, step: JobProgress) -> None:
        name, began = self._phase.get(cell.id, ("", 0.0))
        if name != step.phase:
            began = self._tally.clock()
            self._phase[cell.id] = (step.phase, began)
        spent = self._tally.clock() - began
        left = f" · {clock_text(spent / step.done * (step.total - step.done))} left" if step.done and spent > 1 else ""
        if cell.id in self._tasks:
            detail = f"{step.phase} {step.done}/{step.total}{left}"
            self._progress.update(self._tasks[cell.id], completed=step.done, total=step.total or None, detail=detail)

    def finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None:
        self._tally.finish(cell, status, seconds)
        self._phase.pop(cell.id, None)
        if cell.id in self._tasks:
            self._progress.remove_task(self._tasks.pop(cell.id))
        if status != "ok":
            self._progress.print(f"{status}: {cell.title}: {reason}", markup=False, highlight=False)

    def tick(self) -> None:
        if self._suite is not None:
            t = self._tally
            self._progress.update(self._suite, completed=t.done, total=t.total, detail=str(t))


@contextmanager
def watching(workers: int, say: Callable[[str], None]) -> Iterator[Lines | ProgressBars]:
    """Bars where standard error is a terminal, lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console, tally = Console(stderr=True), Tally(workers)
    if not console.is_terminal:
        yield Lines(tally, say)
        return
    texts = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[detail]}", markup=False)
    with Progress(SpinnerColumn(), texts[0], BarColumn(bar_width=24), texts[1], console=console) as progress:
        yield ProgressBars(tally, progress)
