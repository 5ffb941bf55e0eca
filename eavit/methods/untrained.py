"""The lower bound: slices of sorted pretrained weights, no training."""

from __future__ import annotations

from eavit.importance import METRICS
from eavit.options import allowed
from eavit.prepare import prepare
from eavit.recipe import Elastic, Recipe, Search, front_policy, front_report, search_on
from eavit.space import Space
from eavit.task import Task


def slice_untrained(
    importance: str = "taylor", min_depth: float = 0.5, population: int = 40, generations: int = 12
) -> Recipe:
    """Sorted prefixes of the pretrained backbone with a probed head, no training at all; the common search selects."""
    allowed("importance", importance, METRICS)

    def run(task: Task) -> Elastic:
        vit = prepare(task, importance)
        front, optimism = search_on(task, vit, Space.eavit(vit.backbone, min_depth), Search(population, generations))
        return Elastic(vit, front_policy(front), front_report(front, optimism))

    return Recipe("slice_untrained", run)
