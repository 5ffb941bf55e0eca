"""Choices from a trained family: by its own selector or a common one, free, nested or monotone; their cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

from eavit.methods.answers import Elastic
from eavit.methods.fitness import Measured, estimate_on, measure_on
from eavit.model import cost
from eavit.model.importance import Scores
from eavit.model.vit import NestedViT
from eavit.options import allowed
from eavit.selection import selectors
from eavit.selection.front import Fitness
from eavit.selection.own_selectors import make_selector, needs_scores, selector_factory
from eavit.selection.selectors import EVALUATIONS, SELECTORS, Problem, Selection, Selector
from eavit.space.space import Space
from eavit.training.prepare import scored, scoring_cost
from eavit.training.task import Progress, Task, silent

SELECTS = ("native", *SELECTORS)
METRIC = "taylor"  # of a selector that needs importance scores

# How choices of different budgets relate: each on its own, the smaller inside the larger, the larger never worse.
NESTINGS: dict[str, Callable[[Selection, Problem], Selection]] = {
    "free": lambda selection, problem: selection,
    "nested": selectors.nest_choices,
    "monotone": selectors.monotone_choices,
}


@dataclass(frozen=True, slots=True)
class Choosing:
    """Rule by which submodels of a trained family are chosen; ``scored``: the selector needs importance scores."""

    selector: Selector
    nesting: str = "free"
    scored: bool = False

    def cost(self, task: Task, space: Space) -> float:
        """MACs of :meth:`run`, estimated with the logarithm of the MACs in the place of accuracy."""
        b = space.backbone
        scoring = scoring_cost(task, b, METRIC) if self.scored else 0.0
        select = self._selected(task, space, Scores.equal(b))
        return scoring + estimate_on(task, b, select, lambda s: log(cost.macs(b, s)))

    def run(self, task: Task, vit: NestedViT, space: Space, name: str = "search") -> Selection:
        """Choices of the selector: accuracy on fold A is its fitness, finalists are measured again on fold B. ``name``:
        of the file of measurements, which hold for these weights only.
        """
        scores = scored(task, vit, METRIC, "search") if self.scored else None
        chosen = measure_on(task, vit, self._selected(task, space, scores, task.progress), name)
        return replace(chosen, findings={**chosen.findings, "evaluations": chosen.evaluations})

    def answer(
        self, task: Task, vit: NestedViT, space: Space, diagnostics: Mapping[str, Any], name: str = "search"
    ) -> Elastic:
        """The trained family with its choices; evaluations are added to those of the ``diagnostics``."""
        selection = self.run(task, vit, space, name)
        spent = {"evaluations": diagnostics.get("evaluations", 0) + selection.evaluations}
        return Elastic(vit, selection.policy, {**diagnostics, **selection.findings, **spent})

    def _selected(
        self,
        task: Task,
        space: Space,
        scores: Scores | None,
        progress: Progress = silent,
    ) -> Measured[Selection]:
        def select(on_a: Fitness, on_b: Fitness) -> Selection:
            problem = Problem(space, on_a, on_b, task.budgets, task.seed, scores, progress)
            return NESTINGS[self.nesting](self.selector(problem), problem)

        return select


@dataclass(frozen=True, slots=True)
class SelectOptions:
    """The options that every elastic method has: ``select`` (native, a common selector over the family's own space, or
    ``module:name`` of one's own), ``nesting``, and ``evaluations``, the limit of those that measure.
    """

    select: str = "native"
    nesting: str = "free"
    evaluations: int = EVALUATIONS

    def __post_init__(self) -> None:
        allowed("nesting", self.nesting, NESTINGS)
        if self.select != "native":
            self.choosing(selectors.uniform())  # refuses wrong values before any work

    @property
    def own(self) -> bool:
        """Return whether the family's own policy is used unchanged."""
        return (self.select, self.nesting) == ("native", "free")

    def choosing(self, native: Selector, instead: Mapping[str, Selector] | None = None) -> Choosing:
        """Selection by these options. ``native``: the family's own selector; ``instead``: common names that mean
        something else in this family.
        """
        special = {"native": native, **(instead or {})}
        if self.select in special:
            return Choosing(special[self.select], self.nesting)
        factory = selector_factory("select", self.select, SELECTS)
        return Choosing(make_selector(factory, self.evaluations), self.nesting, needs_scores(factory))
