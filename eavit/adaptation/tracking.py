"""Tracking of an adaptation by a tracker of accelerate, such as TensorBoard: settings, speed of the phases, members."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from eavit.deploy.elastic import ElasticModel
from eavit.training.task import Progress

INTERVAL = 1.0  # seconds between two logs of one phase
PLAIN = (bool, int, float, str)


class Tracker(Protocol):
    """Part of ``accelerate.tracking.GeneralTracker`` that is used; any object that has it is a tracker."""

    def start(self) -> object: ...
    def store_init_configuration(self, values: dict[str, Any]) -> object: ...
    def log(self, values: dict[str, float], step: int | None = None) -> object: ...
    def finish(self) -> object: ...


class TrackedProgress:
    """Progress that is also logged: share done and units per second of each phase, in steps that only grow."""

    def __init__(self, progress: Progress, tracker: Tracker, clock: Callable[[], float] = time.monotonic) -> None:
        self.progress, self.tracker, self.clock = progress, tracker, clock
        self.steps = 0
        self._phase, self._began, self._last, self._first = "", 0.0, 0.0, 0

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.progress(phase, done, total)
        now = self.clock()
        if phase != self._phase:
            self._phase, self._began, self._last, self._first = phase, now, now, done
        elif now > self._began and (now - self._last >= INTERVAL or done >= total):
            self._last = now
            speed = (done - self._first) / (now - self._began)
            self.log({f"{phase}/share_done": done / total, f"{phase}/per_second": speed})

    def log(self, values: dict[str, float]) -> None:
        """Log values at the next step."""
        self.tracker.log(values, step=self.steps)
        self.steps += 1


def tracked(
    progress: Progress, tracker: Tracker | None, settings: Mapping[str, Any], stack: ExitStack
) -> Progress | TrackedProgress:
    """The progress, logged to the tracker if there is one, which is started here and finished with the stack."""
    if tracker is None:
        return progress
    tracker.start()
    stack.callback(tracker.finish)
    tracker.store_init_configuration(flat(settings))
    return TrackedProgress(progress, tracker)


def log_members(elastic: ElasticModel, progress: Progress | TrackedProgress) -> ElasticModel:
    """Log budget, MACs, parameters and accuracy of each member, one step each; the family as it is."""
    if isinstance(progress, TrackedProgress):
        for row in elastic.rows():
            progress.log({f"member/{name}": float(row[name]) for name in ("budget", "macs", "params", "accuracy")})
    return elastic


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by dotted names, as trackers take them: plain values stay, others become text.

    >>> flat({"seed": 0, "schedule": {"lr": 0.1}, "budgets": [0.5, 1.0]})
    {'seed': 0, 'schedule.lr': 0.1, 'budgets': '[0.5, 1.0]'}
    """
    table: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            table |= flat(value, f"{above}{name}.")
        else:
            table[f"{above}{name}"] = value if isinstance(value, PLAIN) else str(value)
    return table
