"""Compute allocation: how many steps each phase of a method gets, settled before any of it runs.

A method declares its parts in the order in which they run: phases (fits), each with its share of the schedule's steps
and the MACs of so many steps; and the MACs of whatever takes no steps (preparation, search, selection).
:func:`allocate` turns regime and schedule into steps for all of them; nothing else in this library reads the regime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

from eavit.model.submodel import Backbone
from eavit.training.checkpoint import Saving
from eavit.training.passes import Plan, as_plan, cost_of_steps
from eavit.training.samplers import Feedback, Sampler
from eavit.training.task import Spent, Task
from eavit.training.train import Fit, Span, schedule_of

Cost = Callable[[int], float]  # steps -> MACs, exact or an estimate
FixedCost = Callable[[], float]  # MACs, exact or an estimate; asked with equal MACs only

PROBED = 32  # steps whose cost gives that of a step
MOST_STEPS = 10_000_000  # of one fit; more is a mistake
SLACK = 0.002  # of the MACs: a search for the very last step would replay a long fit's draws many times


@dataclass(frozen=True, slots=True)
class Phase:
    """A fit of a method.

    ``share``: of the schedule's steps. With equal MACs all phases get steps in proportion to their shares, or, where
    ``weight`` is given, MACs in proportion to that. ``cycle``: the part of a learning-rate cycle that the phase runs
    through; None: all phases of the method share one cycle.
    """

    name: str  # of its checkpoint and its progress, too
    cost: Cost
    share: float = 1.0
    cycle: tuple[float, float] | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Allocation:
    """Steps of the phases of a method. ``limit``: MACs up to the end of the last phase, everything counted; the last
    phase divides what is really left of them, which makes up for estimates such as a search's. None: no limit, the
    steps stand.
    """

    task: Task
    phases: tuple[Phase, ...]
    steps: tuple[int, ...]
    places: tuple[tuple[float, float], ...]  # of the phases in the cycle that they share
    limit: float | None = None

    def fit(self, name: str, cost: Cost | None = None) -> Fit:
        """The fit of a phase, with its steps, its part of the cycle and a checkpoint of its own. ``cost``: where it is
        known better now than when the phase was declared.
        """
        index = [phase.name for phase in self.phases].index(name)
        phase, steps = self.phases[index], self.steps[index]
        if self.limit is not None and phase is self.phases[-1]:
            steps = steps_within(self.limit - spent_on(self.task).macs, cost or phase.cost)
        return fit_on(self.task, name, steps, _span(steps, *(phase.cycle or self.places[index])))


def allocate(task: Task, *parts: Phase | FixedCost) -> Allocation:
    """Steps of all phases: their shares of the schedule's or, with equal MACs, what the MACs pay for."""
    phases = tuple(part for part in parts if isinstance(part, Phase))
    macs: float | None = getattr(task, "train_macs", None)
    if macs is None:
        ends = [round(steps_of(task) * end) for end in accumulate(phase.share for phase in phases)]
        steps = tuple(end - begin for begin, end in pairwise((0, *ends)))
        return Allocation(task, phases, steps, _places(steps))
    fixed = [0.0 if isinstance(part, Phase) else part() for part in parts]
    weights = [p.share * p.cost(PROBED) if p.weight is None else p.weight for p in phases]
    left = max(0.0, macs - spent_on(task).macs - sum(fixed))
    steps = tuple(steps_within(left * w / sum(weights), p.cost) for p, w in zip(phases, weights, strict=True))
    after = sum(fixed[parts.index(phases[-1]) :]) if phases else 0.0
    return Allocation(task, phases, steps, _places(weights), macs - after)


def _places(weights: Sequence[float]) -> tuple[tuple[float, float], ...]:
    whole = sum(weights) or 1.0
    return tuple(pairwise([0.0, *(end / whole for end in accumulate(weights))]))


def _span(steps: int, begin: float, end: float) -> Span:
    """The learning rate of so many steps that run from ``begin`` to ``end`` of a cycle."""
    if not steps:
        return Span(0, 0)
    before, after = (round(steps * part / (end - begin)) for part in (begin, 1 - end))
    return Span(before, before + steps + after)


def steps_within(macs: float, cost: Cost, most: int = MOST_STEPS) -> int:
    """The number of steps, 0 to ``most``, whose cost is not above ``macs`` while one step more is, or which uses all
    but ``SLACK`` of them.

    The cost rises nearly in proportion but, as progress is a fraction of the steps, not strictly; so the answer is
    bracketed from a first guess, then interpolated, or halved where that does not help.
    """
    known = {0: 0.0}

    def spent(steps: int) -> float:
        if steps not in known:
            known[steps] = cost(steps)
        return known[steps]

    low, high = 0, min(most, 32)
    while high > low and spent(high) <= macs:
        low, high = high, min(most, max(high + 1, int(1.02 * high * macs / max(spent(high), 1e-9))))
    halve = False
    while high - low > 1 and spent(low) < (1 - SLACK) * macs:
        before, share = high - low, (macs - spent(low)) / (spent(high) - spent(low))
        middle = min(max(low + int((0.5 if halve else share) * before), low + 1), high - 1)
        low, high = (middle, high) if spent(middle) <= macs else (low, middle)
        halve = not halve and high - low > before / 2
    return low


def plan_cost(task: Task, backbone: Backbone, plan: Plan | Sampler, *, taught: bool = False) -> Cost:
    """The exact MACs of a step plan on this task's batches and draws; ``taught``: beside a teacher of this backbone."""
    teacher = backbone if taught else None

    @cache
    def macs(steps: int) -> float:
        if isinstance(plan, Feedback):
            raise ValueError(
                f"{type(plan).__name__}: a sampler that follows the loss spends what cannot be known beforehand; "
                "it needs regime = 'equal_steps'"
            )
        return cost_of_steps(as_plan(plan), backbone, batch_of(task), task.seed, steps, teacher)

    return macs


def fit_on(task: Task, name: str, steps: int, span: Span) -> Fit:
    """A fit on the task's fit split with a checkpoint of its own."""
    schedule, saving = schedule_of(task.schedule), Saving(task.workdir / f"{name}.safetensors")
    return Fit(task.fit, schedule, task.seed, steps, saving, task.ledger, task.progress, name, span)


def spent_on(task: Task) -> Spent:
    """Compute spent by the method so far; TypeError where the ledger cannot say."""
    if not isinstance(task.ledger, Spent):
        raise TypeError(
            f"the task's ledger is a {type(task.ledger).__name__}, which cannot say what was spent; adapt through "
            "Recipe, or give the task a Spent"
        )
    return task.ledger


def batch_of(task: Task) -> int:
    """Images of one step: the schedule's batch, or all there are if that is fewer."""
    return min(schedule_of(task.schedule).batch, len(task.fit))


def steps_of(task: Task) -> int:
    """Optimiser steps of the schedule on the fit split."""
    return schedule_of(task.schedule).steps(len(task.fit))
