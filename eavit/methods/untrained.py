"""The lower bound: slices of sorted pretrained weights, no training."""

from __future__ import annotations

from typing import Any

from eavit.methods.card import Card
from eavit.methods.choosing import Asked, answer_on
from eavit.methods.recipe import Elastic, Recipe, Search, digest_of, front_policy, search_on
from eavit.model.importance import METRICS
from eavit.options import allowed
from eavit.selection.selectors import EVALUATIONS, given, uniform
from eavit.space.product import ProductSpace
from eavit.training.prepare import prepare
from eavit.training.task import Task

CARD = Card(
    title="Slices, no training",
    paper="none",
    code="none public",
    elastic="as EA-ViT",
    step="none",
    distillation="none",
    selection="the search that EA-ViT's router starts from",
    parameters={
        "importance": ("taylor", "ours"),
        "min_depth": (0.5, "ours"),
        "population": (40, "ours"),
        "generations": (12, "ours"),
    },
    ours=(
        "the head is a linear probe, as for all methods: with a random one it would be at chance by construction",
        "the lower bound in either regime: it spends a probe, an order and a search, whatever the others may spend",
    ),
)


def slice_untrained(
    importance: str = "taylor",
    min_depth: float = 0.5,
    population: int = 40,
    generations: int = 12,
    select: str = "native",
    evaluations: int = EVALUATIONS,
    nesting: str = "free",
) -> Recipe:
    """Sorted prefixes of the pretrained backbone with a probed head, no training at all; the common search selects.

    ``select`` other than native: a common selector with so many ``evaluations``; ``nesting`` is free or nested.
    """
    allowed("importance", importance, METRICS)
    asked = Asked(select, nesting, evaluations)

    def run(task: Task) -> Elastic:
        vit = prepare(task, importance)
        space, own = ProductSpace.eavit(vit.backbone, min_depth), None
        found: dict[str, Any] = {"weights": digest_of(vit), "evaluations": 0}
        if select == "native":
            front, optimism = search_on(task, vit, space, Search(population, generations))
            found, own = found | front.report(optimism), front_policy(front)
            if asked.own:
                return Elastic(vit, own, found)
        return answer_on(task, vit, space, asked.choosing(given(own) if own else uniform()), found)

    return Recipe("slice_untrained", run, CARD)
