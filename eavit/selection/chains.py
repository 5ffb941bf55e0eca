"""Choices nested across budgets, so that one device scales down without loading other weights: two ways to a chain.

:func:`best_chain` is exact over the measured submodels; :func:`shrunk_chain` cuts a selector's choices into each other
and measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.selection.front import Candidate
from eavit.space.space import Space

StepValue = Callable[[Submodel, Submodel], float]  # value of the step between a (smaller, larger) submodel


def best_chain(points: Sequence[Candidate], budgets: Sequence[float]) -> tuple[Candidate, ...] | None:
    """One point for each ascending budget, each within its budget and nested in the next one, of the largest sum of
    fitness; None where the points have no such chain. By dynamic programming, quadratic in the points; of equal sums
    the one of the least MACs and the smallest spelling, from the largest budget down.
    """
    ordered = sorted(points, key=lambda p: (p.cost, str(p.submodel)))
    if not ordered or not budgets:
        return None if budgets else ()
    widths = np.array([(p.submodel.embed, *p.submodel.heads, *p.submodel.mlp) for p in ordered])
    inside = np.array([(widths <= row).all(1) for row in widths])  # [larger, smaller]
    fitness, shares = np.array([p.fitness for p in ordered]), np.array([p.share for p in ordered])
    total = np.where(shares <= budgets[0], fitness, -np.inf)
    steps = []
    for budget in budgets[1:]:
        below = np.where(inside, total, -np.inf)
        steps.append(below.argmax(1))
        total = np.where(shares <= budget, below.max(1) + fitness, -np.inf)
    if not np.isfinite(total.max()):
        return None
    chain = [int(total.argmax())]
    for step in reversed(steps):
        chain.append(int(step[chain[-1]]))
    return tuple(ordered[i] for i in reversed(chain))


def _with_least_depth(space: Space, inner: Submodel, outer: Submodel) -> Submodel:
    """``inner`` with as many branches as the space demands: the first that ``outer`` has, at their least width."""

    def row(widths: tuple[int, ...], limits: tuple[int, ...], least: int, width: int) -> tuple[int, ...]:
        skipped = [layer for layer, (w, limit) in enumerate(zip(widths, limits, strict=True)) if limit and not w]
        added = set(skipped[: max(0, least - sum(map(bool, widths)))])
        return tuple(width if layer in added else w for layer, w in enumerate(widths))

    return Submodel(
        inner.embed,
        row(inner.heads, outer.heads, space.min_attn, space.heads[0]),
        row(inner.mlp, outer.mlp, space.min_mlp, space.mlps[0]),
    )


def macs_of_step(space: Space) -> StepValue:
    """Steps valued by the MACs between their ends."""
    return lambda small, large: float(cost.macs(space.backbone, large) - cost.macs(space.backbone, small))


def shrink_into(space: Space, choice: Submodel, outer: Submodel, budget: float, value: StepValue) -> Submodel:
    """A member within ``outer`` and the budget that stays close to ``choice``: the widths that both have, then wider
    inside ``outer`` by the most valuable step that fits, again and again. ``choice`` itself where it is nested already.
    """
    if choice <= outer:
        return choice

    def share(submodel: Submodel) -> float:
        return cost.share(space.backbone, submodel)

    # Never dearer than the choice: all layers cost the same, and the choice has as many.
    current = _with_least_depth(space, choice.meet(outer), outer)
    while steps := [s for s in space.wider(current) if s <= outer and share(s) <= budget]:
        inner = current
        current = max(steps, key=lambda s: (value(inner, s), str(s)))
    return current


def shrunk_chain(
    space: Space, choices: Sequence[Submodel], budgets: Sequence[float], value: StepValue
) -> tuple[Submodel, ...]:
    """Nested choices for ascending budgets from free ones: the largest stays, every smaller one is shrunk into the next
    larger (:func:`shrink_into`).
    """
    chain = list(choices[-1:])
    for choice, budget in reversed(list(zip(choices[:-1], budgets[:-1], strict=True))):
        chain.append(shrink_into(space, choice, chain[-1], budget, value))
    return tuple(reversed(chain))
