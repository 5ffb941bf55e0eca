"""Search for submodels that use limits up: shapes between the members of a family, each measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from math import gcd

from eavit.adaptation.progress import reporter
from eavit.adaptation.task import validation_of
from eavit.deploy.elastic import ElasticModel, Timed, ascending
from eavit.deploy.limits import Limits
from eavit.deploy.members import measured
from eavit.model import cost
from eavit.model.inputs import Batches
from eavit.model.submodel import Submodel
from eavit.training.task import Progress

STEPS = 16  # shapes on the way between two members
MEASURED = 12  # shapes that are measured at most, those of most MACs


def refine(
    elastic: ElasticModel,
    val: Batches,
    *,
    profile: Timed | None = None,
    progress: bool | Progress = True,
    **limits: float,
) -> ElasticModel:
    """The family with one more member where a shape between its members keeps all limits and is more accurate than
    every member that does.

    Candidates lie on the way from a member within the limits to one beyond them, in whole steps of the members' widths,
    as far as the limits themselves allow: of whatever kind they are, no other cost stands in for them. Each is measured
    on ``val``, which must be the images that the members were measured on. UnreachableError if no member keeps the
    limits.
    """
    upper = Limits.of(limits)
    best = elastic.fitting(upper, profile)[0]
    images = validation_of(elastic.vit, val)
    if images.sha256 != elastic.table.validation.sha256:
        raise ValueError("val has other images than the members were measured on; accuracies would not compare")
    shapes = shapes_between(elastic, upper, profile)
    with ExitStack() as stack:
        candidates = list(measured(elastic.vit, shapes, {}, [images.whole], reporter(progress, stack)))
    better = max(candidates, key=lambda m: (m.correct, -cost.macs(elastic.backbone, m.submodel)), default=best)
    if better.correct <= best.correct:
        return elastic
    table = replace(elastic.table, members=ascending(elastic.backbone, [*elastic.members, better]))
    return ElasticModel(elastic.vit, table, elastic.by_size)


def shapes_between(elastic: ElasticModel, limits: Limits, profile: Timed | None = None) -> list[Submodel]:
    """The largest shape within the limits on the way from each member within them to each beyond, by descending MACs.
    Members with parameters of their own have none on their way.
    """
    shared = [m.submodel for m in elastic.members if m.submodel not in elastic.by_size]
    sizes = elastic.limited_sizes(shared, limits, profile)
    fits = [not any(limits.exceeded(size)) for size in sizes]
    inside = [s for s, fit in zip(shared, fits, strict=True) if fit]
    outside = [s for s, fit in zip(shared, fits, strict=True) if not fit]
    shapes: set[Submodel] = set()
    for start, end in product(inside, outside):
        way = _way(start, end, _steps(shared))
        within = [
            shape
            for shape, size in zip(way, elastic.limited_sizes(way, limits, profile), strict=True)
            if not any(limits.exceeded(size))
        ]
        shapes.update(within[-1:])
    return sorted(shapes - set(shared), key=lambda s: -cost.macs(elastic.backbone, s))[:MEASURED]


def _steps(members: Sequence[Submodel]) -> tuple[int, int]:
    """Channels and hidden neurons by whose multiples all members' widths differ."""
    return gcd(*(s.embed for s in members)), max(1, gcd(*(width for s in members for width in s.mlp)))


def _way(start: Submodel, end: Submodel, steps: tuple[int, int]) -> list[Submodel]:
    """Shapes from one submodel to another, both left out, each layer's widths in proportion."""
    channels, neurons = steps

    def between(first: int, last: int, part: float, step: int = 1) -> int:
        return first + step * round(part * (last - first) / step)

    way = []
    for part in (i / STEPS for i in range(1, STEPS)):
        heads = tuple(between(a, b, part) for a, b in zip(start.heads, end.heads, strict=True))
        mlp = tuple(between(a, b, part, neurons) for a, b in zip(start.mlp, end.mlp, strict=True))
        way.append(Submodel(between(start.embed, end.embed, part, channels), heads, mlp))
    return way
