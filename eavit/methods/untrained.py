"""The lower bound: slices of sorted pretrained weights, no training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eavit.methods.answers import Elastic
from eavit.methods.choosing import SelectOptions
from eavit.methods.fitness import FrontSearch, Search, front_policy
from eavit.methods.fitting import digest_of
from eavit.methods.recipe import Card, Recipe
from eavit.options import allowed, number, options_table, refuse
from eavit.selection.selectors import EVALUATIONS, given, uniform
from eavit.space.product import ProductSpace
from eavit.training.prepare import IMPORTANCES, prepare, start
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
        "search.population": (40, "ours"),
        "search.generations": (12, "ours"),
    },
    ours=(
        "the head is a linear probe, as for all methods: with a random one it would be at chance by construction",
        "the lower bound in either regime: it spends a probe, an order and a search, whatever the others may spend",
    ),
)


def slice_untrained(
    importance: str = "taylor",
    min_depth: float = 0.5,
    search: Mapping[str, Any] = {},
    select: str = "native",
    evaluations: int = EVALUATIONS,
    nesting: str = "free",
    **others: Any,
) -> Recipe:
    """Sorted prefixes of the pretrained backbone with a probed head, no training at all; the common search selects.

    ``select`` other than native: a common selector with so many ``evaluations``;
    ``nesting`` is free, nested or monotone.
    """
    allowed("importance", importance, IMPORTANCES)
    number("min_depth", min_depth, "[0, 1]")
    renamed = {key: f"search.{key}" for key in ("population", "generations")}
    refuse(others, ("importance", "min_depth", "search", "select", "evaluations", "nesting"), renamed)
    options, size = SelectOptions(select, nesting, evaluations), options_table(Search, "search", search)
    front_search = FrontSearch(size)
    values = {"search.population": size.population, "search.generations": size.generations}
    card = CARD.with_values({"importance": importance, "min_depth": min_depth, **values})

    def run(task: Task) -> Elastic:
        vit = prepare(task, start(task), importance)
        space, native = ProductSpace.eavit(vit.backbone, min_depth), None
        diagnostics: dict[str, Any] = {"weights": digest_of(vit), "evaluations": 0}
        if select == "native":
            front, optimism = front_search.run(task, vit, space)
            diagnostics, native = diagnostics | front.report(optimism), front_policy(front)
            if options.own:
                return Elastic(vit, native, diagnostics)
        return options.choosing(given(native) if native else uniform()).answer(task, vit, space, diagnostics)

    return Recipe("slice_untrained", run, card, lambda b, _: ProductSpace.eavit(b, min_depth))
