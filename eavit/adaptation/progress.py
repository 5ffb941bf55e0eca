"""Progress of an adaptation: one bar for each phase, with the time left."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from tqdm.auto import tqdm

from eavit.training.task import Progress, silent

ON_TERMINAL, IN_FILE = 0.1, 30.0  # seconds between two states of a bar
UNITS = {"search": "submodel", "measure": "submodel", "prepare": "pass", "load": "pass"}


class Bars:
    """One tqdm bar at a time: a new one when the phase changes."""

    def __init__(self) -> None:
        self._phase = ""
        self._bar: Any = None

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase != self._phase or self._bar is None:
            self.close()
            self._phase = phase
            self._bar = tqdm(
                total=total,
                desc=phase,
                unit=UNITS.get(phase, "step"),
                initial=min(done, total),
                mininterval=ON_TERMINAL if sys.stderr.isatty() else IN_FILE,
            )
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def reporter(progress: bool | Progress, stack: ExitStack) -> Progress:
    """A function of (phase, done, total): the one that is given, bars until the stack is closed, or none."""
    if callable(progress):
        return progress
    if not progress:
        return silent
    bars = Bars()
    stack.callback(bars.close)
    return bars
