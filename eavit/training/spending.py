"""What a method may still spend: its steps or its MACs, shared out among its fits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from eavit.model.submodel import Backbone
from eavit.training.samplers import Sampler
from eavit.training.steps import Plan, as_plan, cost_of_steps, most_within
from eavit.training.task import Ledger, Task
from eavit.training.train import Span, schedule_of

MOST_STEPS = 10_000_000  # of one fit; more is a mistake


class Tally:
    """Passes on to a ledger and remembers: a ledger cannot be asked what it holds."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.forward_macs, self.backward_macs, self.images = ledger, 0.0, 0.0, 0

    @property
    def macs(self) -> float:
        return self.forward_macs + self.backward_macs

    def phase(self, name: str) -> AbstractContextManager[None]:
        return self.ledger.phase(name)

    def add(self, *, forward_macs: float = 0, backward_macs: float = 0, images: int = 0, steps: int = 0) -> None:
        self.forward_macs += forward_macs
        self.backward_macs += backward_macs
        self.images += images
        self.ledger.add(forward_macs=forward_macs, backward_macs=backward_macs, images=images, steps=steps)


@dataclass(frozen=True, slots=True)
class Portion:
    """What one fit gets of a method's training: ``share`` of it, after earlier fits that got ``before``.

    Shares of one method add up to 1. With equal steps they are shares of the schedule's steps. With equal MACs they are
    shares of what is left once ``reserve`` (MACs of a search that is still to come, see :func:`search_cost`) is put
    aside; as each fit divides what is *really* left then, the last one makes up for every estimate before it.
    """

    share: float = 1.0
    before: float = 0.0
    reserve: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.before >= 0 and self.before + self.share <= 1 + 1e-9):
            raise ValueError(f"portion: share={self.share} after before={self.before} must lie within 0..1")

    def of_steps(self, whole: int) -> int:
        return round(whole * min(1.0, self.before + self.share)) - round(whole * self.before)

    def of_macs(self, left: float) -> float:
        return max(0.0, left - self.reserve) * min(1.0, self.share / (1 - self.before))

    def span(self, steps: int, whole: int) -> Span:
        """This fit's place in the one cycle of the learning rate that all fits of the method share."""
        before = (
            round(whole * self.before) if steps == self.of_steps(whole) else round(steps * self.before / self.share)
        )
        after = 1 - self.before - self.share
        rest = whole - before - steps if steps == self.of_steps(whole) else round(steps * after / self.share)
        return Span(before, before + steps + rest)


def budget_left(task: Task) -> float | None:
    """MACs that the method may still spend, all phases counted (regime equal MACs); None: the regime is equal steps."""
    total: float | None = getattr(task, "train_macs", None)
    if total is None:
        return None
    if not isinstance(task.ledger, Tally):
        raise TypeError(
            f"budget_left: the task's ledger is a {type(task.ledger).__name__}, which cannot say what was spent; "
            "adapt through Recipe, or give the task a Tally"
        )
    return max(0.0, total - task.ledger.macs)


def steps_for(task: Task, portion: Portion, spending: Callable[[int], float]) -> int:
    """Its share of the schedule's steps, or of the MACs left; ``spending``: the exact MACs of so many steps."""
    left = budget_left(task)
    if left is None:
        return portion.of_steps(steps_of(task))
    return most_within(portion.of_macs(left), spending, MOST_STEPS)


def steps_of_plan(
    task: Task, backbone: Backbone, plan: Plan | Sampler, portion: Portion, teacher: Backbone | None = None
) -> int:
    """:func:`steps_for` of a step plan on this task's batches and draws."""
    batch = batch_of(task)
    return steps_for(task, portion, lambda n: cost_of_steps(as_plan(plan), backbone, batch, task.seed, n, teacher))


def batch_of(task: Task) -> int:
    """Images of one step: the schedule's batch, or all there are if that is fewer."""
    return min(schedule_of(task.schedule).batch, len(task.fit))


def steps_of(task: Task) -> int:
    return schedule_of(task.schedule).steps(len(task.fit))
