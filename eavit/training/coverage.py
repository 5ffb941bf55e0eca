"""Coverage of the MACs axis by a training."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.training.passes import Plan, as_plan, draws_of
from eavit.training.samplers import Feedback, Sampler

BINS, QUARTERS = 10, 4
REPLAYED = 400  # steps that are drawn again, at most


def coverage(fits: Sequence[tuple[Plan | Sampler, int]], backbone: Backbone, seed: int) -> list[list[int]] | None:
    """Count the passes of a training (its fits, each with its steps) in each tenth of the MACs axis (columns), for
    each quarter of all its steps (rows). Draws are replayed: all, or ``REPLAYED`` evenly spaced ones of a longer
    training. None where a sampler follows the loss.
    """
    if any(isinstance(plan, Feedback) for plan, _ in fits):
        return None
    ends = list(accumulate(steps for _, steps in fits))
    whole = ends[-1] if ends else 0
    table, turns = [[0] * BINS for _ in range(QUARTERS)], min(whole, REPLAYED)
    for place in (turn * whole // turns for turn in range(turns)):
        fit = bisect_right(ends, place)
        plan, steps = fits[fit]
        index = place - (ends[fit] - steps)
        for p in as_plan(plan)(index / steps, draws_of(seed, index)):
            table[place * QUARTERS // whole][min(BINS - 1, int(BINS * cost.share(backbone, p.submodel)))] += p.learns
    return table
