"""Step plans of the methods: what one optimiser step propagates. One trainer serves all; they differ by plan."""

from __future__ import annotations

from functools import partial

import numpy as np

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.training.passes import TEACHER, Pass, Passes, Plan
from eavit.training.samplers import Sampler


def _descending(sampler: Sampler, progress: float, rng: np.random.Generator) -> list[Submodel]:
    """The step's submodels by descending MACs; equals in the order drawn."""
    return sorted(sampler(progress, rng), key=lambda s: -cost.macs(sampler.space.backbone, s))


def in_place(sampler: Sampler, soft: float = 1.0, hard: float = 0.0, temperature: float = 1.0) -> Plan:
    """The largest submodel of the step learns from labels, the others from its logits; it alone is regularised (US-Net
    and BigNAS).
    """

    def plan(progress: float, rng: np.random.Generator) -> Passes:
        first, *others = _descending(sampler, progress, rng)
        taught = (Pass(s, hard, soft, 0, temperature=temperature, smoothed=False) for s in others)
        return (Pass(first), *taught)

    return plan


def next_larger(
    sampler: Sampler, soft: float = 1.0, hard: float = 1.0, temperature: float = 1.0, *, isolated: bool = False
) -> Plan:
    """The largest learns from labels, each other one from the next larger too (Scala); ``isolated``: all but the
    largest and the smallest take the tail of the weights.
    """

    def plan(progress: float, rng: np.random.Generator) -> Passes:
        first, *others = _descending(sampler, progress, rng)
        last = len(others) - 1
        taught = (
            Pass(s, hard, soft, place, temperature=temperature, tail=isolated and place < last)
            for place, s in enumerate(others)
        )
        return (Pass(first), *taught)

    return plan


def taught(
    sampler: Sampler, soft: float = 1.0, hard: float = 0.0, features: float = 0.0, temperature: float = 1.0
) -> Plan:
    """Every submodel learns from an outside teacher (OFA; with ``features`` DynaBERT)."""
    form = partial(Pass, hard=hard, soft=soft, source=TEACHER, features=features, temperature=temperature)
    return lambda progress, rng: tuple(form(submodel) for submodel in sampler(progress, rng))


def micro_batches(sampler: Sampler, count: int) -> Plan:
    """The step's batch in ``count`` pieces, each with its own draw (SortedNet); weights add up to one."""
    if count < 1:
        raise ValueError(f"micro_batches: count is {count}, must be at least 1")

    def plan(progress: float, rng: np.random.Generator) -> Passes:
        drawn = ((place, submodel) for place in range(count) for submodel in sampler(progress, rng))
        return tuple(Pass(submodel, hard=1 / count, part=(place, count)) for place, submodel in drawn)

    return plan
