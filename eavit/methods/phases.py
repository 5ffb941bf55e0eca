"""What families trained in several fits have in common: shares of a training, re-sorting between fits, reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, islice

import torch
from torch import Tensor

from eavit import cost
from eavit.importance import METRICS, Scores, permute
from eavit.methods.onefit import Choosing
from eavit.prepare import BATCH, PROBE_IMAGES
from eavit.recipe import Portion, batch_of, budget_left, fit_on, steps_for
from eavit.selecting import selection_cost
from eavit.space import Space
from eavit.steps import Plan, cost_of_steps, draws_of
from eavit.submodel import Backbone
from eavit.task import Task
from eavit.train import Fit, Span, fit_plan
from eavit.vit import NestedViT

BINS, QUARTERS, REPLAYED = 10, 4, 400  # of a report's coverage, as in every method's
PROBED = 32  # steps that tell what a step of a phase costs
Spending = Callable[[int], float]  # steps -> MACs of a fit of so many
UNITS = ("channels", "heads", "neurons")


@dataclass(frozen=True, slots=True)
class Phase:
    """One fit: its part of the method's steps, and the part of a learning-rate cycle that it runs through."""

    name: str  # of its checkpoint, too
    share: float
    cycle: tuple[float, float] = (0.0, 1.0)

    def span(self, steps: int) -> Span:
        begin, end = self.cycle
        before, after = (round(steps * part / (end - begin)) for part in (begin, 1 - end))
        return Span(before, before + steps + after)


def spending_of(task: Task, backbone: Backbone, plan: Plan, *, taught: bool = False) -> Spending:
    """The exact MACs of so many steps of a plan; a teacher is a backbone of the same kind."""
    guide = backbone if taught else None
    return lambda steps: cost_of_steps(plan, backbone, batch_of(task), task.seed, steps, guide)


def portions(task: Task, phases: Sequence[Phase], prices: Sequence[Spending], reserve: float = 0.0) -> list[Portion]:
    """What each fit gets. The phases' shares are of steps; in the regime equal MACs each one weighs as much as its
    steps cost, so that the proportions of the steps stay.
    """
    weights = [phase.share for phase in phases]
    if budget_left(task) is not None:
        weights = [w * price(PROBED) for w, price in zip(weights, prices, strict=True)]
    ends = [min(1.0, end / sum(weights)) for end in accumulate(weights)]
    return [Portion(end - start, start, reserve) for start, end in zip([0.0, *ends[:-1]], ends, strict=True)]


def reserve_of(task: Task, space: Space, choose: Choosing, backbone: Backbone) -> float:
    """MACs that the selection at the end will cost (regime equal MACs; else nobody asks)."""
    if budget_left(task) is None:
        return 0.0
    b = backbone
    flat = Scores(torch.ones(b.embed), torch.ones(b.depth, b.heads), torch.ones(b.depth, b.mlp))
    scoring = 3.0 * cost.macs(b, b.full) * min(len(task.fit), PROBE_IMAGES) if choose.scored else 0.0
    return scoring + selection_cost(task, space, choose.selector, nesting=choose.nesting, scores=flat)


def fit_of(task: Task, phase: Phase, portion: Portion, price: Spending) -> Fit:
    """The fit of a phase, with as many steps as its portion pays for."""
    steps = steps_for(task, portion, price)
    return replace(fit_on(task, phase.name, steps), span=phase.span(steps))


def train_phase(
    task: Task, vit: NestedViT, plan: Plan, phase: Phase, portion: Portion, teacher: NestedViT | None = None
) -> int:
    """One fit by a step plan, in place; how many steps it took."""
    run = fit_of(task, phase, portion, spending_of(task, vit.backbone, plan, taught=teacher is not None))
    with task.ledger.phase("train"):
        fit_plan(vit, plan, run, teacher)
    return run.total or 0


def resorted(task: Task, vit: NestedViT, metric: str, units: Collection[str] = UNITS) -> NestedViT:
    """A copy with these units sorted by importance on the fit split and the same function at full width; charged."""
    device = next(vit.parameters()).device
    seen = min(len(task.fit), max(1, PROBE_IMAGES // BATCH) * BATCH)
    full = float(cost.macs(vit.backbone, vit.backbone.full)) * seen

    def moved(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pair[0].to(device), pair[1].to(device)

    with task.ledger.phase("prepare"):
        scores = METRICS[metric](vit, map(moved, islice(task.fit.batches(BATCH), max(1, PROBE_IMAGES // BATCH))))
        forward, backward = {"taylor": (1, 2), "activation": (1, 0)}.get(metric, (0, 0))
        task.ledger.add(forward_macs=forward * full, backward_macs=backward * full, images=seen * forward)
    orders = {name: _order(name, getattr(scores, name), sort=name in units) for name in UNITS}
    return permute(vit, **orders)


def _order(name: str, scores: Tensor, *, sort: bool) -> Tensor:
    if not torch.isfinite(scores).all():
        raise FloatingPointError(f"importance of {name} is not finite; the training before it may have diverged")
    keep = torch.arange(scores.shape[-1], device=scores.device).expand(scores.shape)
    return torch.argsort(scores, dim=-1, descending=True, stable=True) if sort else keep


def coverage_of(fits: Sequence[tuple[Plan, int]], backbone: Backbone, seed: int) -> list[list[int]]:
    """How often each tenth of the full MACs was trained (columns), by quarters of all the fits' steps (rows). The draws
    of at most 400 evenly spaced steps are replayed.
    """
    table, whole = [[0] * BINS for _ in range(QUARTERS)], sum(steps for _, steps in fits)
    places = [(plan, index, steps) for plan, steps in fits for index in range(steps)]
    share = partial(cost.share, backbone)
    for turn in range(min(whole, REPLAYED)):
        place = turn * whole // min(whole, REPLAYED)
        plan, index, steps = places[place]
        for p in plan(index / steps, draws_of(seed, index)):
            table[place * QUARTERS // whole][min(BINS - 1, int(BINS * share(p.submodel)))] += p.learns
    return table
