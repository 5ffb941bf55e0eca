"""MatFormer: nested hidden widths, trained together; Mix'n'Match selects."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement

from eavit import cost
from eavit.importance import METRICS
from eavit.options import allowed
from eavit.prepare import prepare
from eavit.recipe import Elastic, Recipe, train_on
from eavit.router import Policy
from eavit.samplers import Always, chain
from eavit.space import Space
from eavit.submodel import Submodel
from eavit.task import Task


def matformer(importance: str = "taylor") -> Recipe:
    """MatFormer: hidden prefixes of 1, 1/2, 1/4, 1/8, all four trained at every step; Mix'n'Match selects.

    The mixes are non-decreasing over the layers. Attention, embedding and depth stay full, which sets its floor.
    """
    allowed("importance", importance, METRICS)

    def run(task: Task) -> Elastic:
        vit = prepare(task, importance)
        widths = sorted({max(1, vit.backbone.mlp // part) for part in (1, 2, 4, 8)})
        space = Space.of_widths(vit.backbone, widths)
        train_on(task, vit, Always(space, chain(space, widths)))
        return Elastic(vit, Policy.from_members(space, _mixes(space), narrowed=False).choose)

    return Recipe("matformer", run)


def _mixes(space: Space) -> Iterator[Submodel]:
    """Mix'n'Match: for each MACs value the most uniform of the non-decreasing mixes that cost this much."""
    full, best = space.largest, dict[int, tuple[int, Submodel]]()
    for mlp in combinations_with_replacement(space.mlps, space.depth):
        submodel = Submodel(full.embed, full.heads, mlp)
        spent, spread = cost.macs(space.backbone, submodel), max(mlp) - min(mlp)
        if spent not in best or spread < best[spent][0]:
            best[spent] = (spread, submodel)
    return (submodel for _, submodel in best.values())
