"""Families of members that need no accuracy: MatFormer's mixes, uniform shapes, the path of least importance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations_with_replacement, product
from math import inf

import numpy as np

from eavit.model import cost
from eavit.model.cost import Measure
from eavit.model.importance import Scores
from eavit.model.submodel import Submodel
from eavit.selection.chains import StepValue
from eavit.space.space import Space


def mixes(space: Space) -> Iterator[Submodel]:
    """MatFormer's candidates in any space: full depth, one granularity a layer, never smaller than the one before, for
    every embedding; most uniform first. Granularities are the hidden widths or the head counts, whichever are more; the
    other follows in proportion.
    """
    levels = max(len(space.heads), len(space.mlps))

    def width(options: tuple[int, ...], level: int) -> int:
        return options[level * (len(options) - 1) // max(1, levels - 1)]

    def slope(row: tuple[int, ...]) -> tuple[int, float]:
        return row[-1] - row[0], float(np.var(row))

    for row in sorted(combinations_with_replacement(range(levels), space.backbone.depth), key=slope):
        heads, mlp = (tuple(width(options, level) for level in row) for options in (space.heads, space.mlps))
        for embed in reversed(space.embeds):
            yield Submodel(embed, heads, mlp)


def uniforms(space: Space) -> tuple[Submodel, ...]:
    """One head count, one hidden width and one embedding for all layers, at full depth, most MACs first; only shapes
    whose narrowest dimension, relative to the backbone's, is as wide as the MACs allow.
    """
    b, n = space.backbone, space.backbone.depth

    def order(shape: Submodel) -> tuple[float, float]:
        narrowest = min(shape.embed / b.embed, shape.heads[0] / b.heads, shape.mlp[0] / b.mlp)
        return narrowest, cost.share(b, shape)

    shapes = [Submodel(e, (h,) * n, (m,) * n) for e, h, m in product(space.embeds, space.heads, space.mlps)]
    widest: list[Submodel] = []
    for shape in sorted(shapes, key=lambda s: (cost.share(b, s), s.embed)):
        if not widest or order(shape) > order(widest[-1]):
            widest.append(shape)
    return tuple(reversed(widest))


def importance_per_size(space: Space, scores: Scores, measure: Measure | None = None) -> StepValue:
    """Importance of the units between two nested members for what they add to the size by a measure, MACs unless said
    otherwise; infinite where they add nothing.
    """
    measure = measure or Measure.of_macs(space.backbone)
    channels = np.concatenate([[0.0], np.cumsum(scores.channels.double().cpu().numpy())])
    rows = [np.cumsum(np.pad(s.double().cpu().numpy(), ((0, 0), (1, 0))), 1) for s in (scores.heads, scores.neurons)]
    layers = np.arange(space.backbone.depth)

    def value(small: Submodel, large: Submodel) -> float:
        units = channels[large.embed] - channels[small.embed]
        for table, less, more in ((rows[0], small.heads, large.heads), (rows[1], small.mlp, large.mlp)):
            units += (table[layers, list(more)] - table[layers, list(less)]).sum()
        added = measure.of(large) - measure.of(small)
        return float(units / added) if added > 0 else inf

    return value


def greedy_path(space: Space, scores: Scores, measure: Measure | None = None) -> tuple[Submodel, ...]:
    """Members from the largest down, always by the step (a head, hidden or embedding step, at last the branch) that
    loses the least importance for each MAC it saves; or for what it saves by another measure, with whole branches as
    steps too, for one may be saved at once where no width of it is.
    """
    values, path = [importance_per_size(space, scores)], [space.largest]
    if measure is not None:
        values.insert(0, importance_per_size(space, scores, measure))
    while steps := [*space.narrower(path[-1]), *(() if measure is None else _without_a_branch(space, path[-1]))]:
        path.append(min(steps, key=lambda s: (*(value(s, path[-1]) for value in values), str(s))))
    return tuple(path)


def _without_a_branch(space: Space, submodel: Submodel) -> Iterator[Submodel]:
    """Members that lack one of the submodel's branches."""

    def closed(widths: tuple[int, ...], layer: int) -> tuple[int, ...]:
        return (*widths[:layer], 0, *widths[layer + 1 :])

    for layer in range(space.backbone.depth):
        attention = replace(submodel, heads=closed(submodel.heads, layer))
        for less in (attention, replace(submodel, mlp=closed(submodel.mlp, layer))):
            if less != submodel and space.contains(less):
                yield less
