"""Choices nested across budgets, so that one device scales down without loading other weights: two ways to a chain.

``best_chain`` is exact over what was measured; ``shrunk_chain`` cuts a selector's own choices into each other and
measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.selection.search import Point
from eavit.space.space import Space

Worth = Callable[[Submodel, Submodel], float]  # (smaller, larger): what the step between them is worth


def best_chain(points: Sequence[Point], budgets: Sequence[float]) -> tuple[Point, ...] | None:
    """One point for each ascending budget, each within its budget and nested in the next one, of the largest sum of
    fitness; None where the points have no such chain. By dynamic programming, quadratic in the points; of equal sums
    the one of the least MACs and the smallest spelling, from the largest budget down.
    """
    ordered = sorted(points, key=lambda p: (p.macs, str(p.submodel)))
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


def _revived(space: Space, thin: Submodel, wide: Submodel) -> Submodel:
    """``thin`` with the first of ``wide``'s branches switched on at their least width, as many as the space demands."""

    def row(kept: tuple[int, ...], outer: tuple[int, ...], least: int, width: int) -> tuple[int, ...]:
        off = [layer for layer, (k, w) in enumerate(zip(kept, outer, strict=True)) if w and not k]
        on = set(off[: max(0, least - sum(map(bool, kept)))])
        return tuple(width if layer in on else k for layer, k in enumerate(kept))

    return Submodel(
        thin.embed,
        row(thin.heads, wide.heads, space.min_attn, space.heads[0]),
        row(thin.mlp, wide.mlp, space.min_mlp, space.mlps[0]),
    )


def dearest_step(space: Space) -> Worth:
    """Steps by the MACs between their ends."""
    return lambda small, large: float(cost.macs(space.backbone, large) - cost.macs(space.backbone, small))


def shrink_into(space: Space, own: Submodel, outer: Submodel, budget: float, worth: Worth) -> Submodel:
    """A member within ``outer`` and the budget that keeps to ``own``: their meet, repaired, then grown inside ``outer``
    by the worthiest step that fits, again and again. ``own`` itself where it is nested already.
    """
    if own <= outer:
        return own

    def share(submodel: Submodel) -> float:
        return cost.share(space.backbone, submodel)

    current = _revived(space, own.meet(outer), outer)  # never dearer than own: layers cost alike, and own has as many
    while steps := [s for s in space.wider(current) if s <= outer and share(s) <= budget]:
        inner = current
        current = max(steps, key=lambda s: (worth(inner, s), str(s)))
    return current


def shrunk_chain(space: Space, own: Sequence[Submodel], budgets: Sequence[float], worth: Worth) -> tuple[Submodel, ...]:
    """Nested choices for ascending budgets from free ones: the largest is kept, every smaller one shrunk into the next
    larger (:func:`shrink_into`).
    """
    chain = list(own[-1:])
    for choice, budget in reversed(list(zip(own[:-1], budgets[:-1], strict=True))):
        chain.append(shrink_into(space, choice, chain[-1], budget, worth))
    return tuple(reversed(chain))
