"""Methods for probes: so many milliseconds a step, told or not, on the schedule that the task names."""

from __future__ import annotations

import time
from typing import Any

from harness.protocol import Task
from tests.harness.fakes import Fake, Family


def paced(step: float = 0.004, setup: float = 0.1, tells: bool = True) -> Fake:
    """``setup`` seconds and a constant phase of 30 calls, then ``step`` seconds for each of the schedule's steps; each
    third step also makes the work folder 100 KiB larger.
    """

    def train(task: Task) -> None:
        time.sleep(setup)
        for done in range(30):
            task.progress("search", done + 1, 30)
        steps = steps_of(task)
        for index in range(steps):
            time.sleep(step)
            if index % 3 == 2:
                (task.workdir / f"{index}.part").write_bytes(bytes(100 * 1024))
            if tells:
                task.progress("train", index + 1, steps)
        task.ledger.add(forward_macs=7e6 * steps, steps=steps)

    return _Paced("paced", make=Family, before=train)


def picky(least: int) -> Fake:
    """Refuses schedules of fewer steps."""

    def check(task: Task) -> None:
        if steps_of(task) < least:
            raise ValueError(f"too short: {steps_of(task)} steps")

    return Fake("picky", before=check)


def copied(of: str) -> Fake:
    """As long as what it was given; fails where that is nothing."""

    def check(task: Task) -> None:
        if not task.given[of]:
            raise ValueError("nothing given")

    return Fake("copied", before=check)


def steps_of(task: Task) -> int:
    schedule = task.schedule
    return max(1, round(schedule["epochs"] * max(1, len(task.fit) // schedule["batch"])))


class _Paced(Fake):
    def adapt(self, task: Task) -> Any:
        with task.ledger.phase("train"):
            self.before(task)
        return self.make(task)
