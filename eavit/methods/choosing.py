"""How a trained family is chosen from: by its own rule or a common one, free or nested; and what that will cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch

from eavit.methods.recipe import Elastic
from eavit.methods.selection_stage import NESTINGS, select_on, selection_cost
from eavit.model.importance import Scores
from eavit.model.vit import NestedViT
from eavit.options import allowed
from eavit.selection.selectors import SELECTORS, Selection, Selector, uniform
from eavit.space.space import Space
from eavit.training.prepare import scored, scoring_cost
from eavit.training.spending import budget_left
from eavit.training.task import Task

SELECTS = ("native", *SELECTORS)
METRIC = "taylor"  # of a selector that wants importance scores


@dataclass(frozen=True, slots=True)
class Choosing:
    """How a trained family is chosen from; ``scored``: the selector wants importance scores."""

    selector: Selector
    nesting: str = "free"
    scored: bool = False


def choosing(
    select: str,
    nesting: str,
    evaluations: int,
    native: Selector,
    instead: Mapping[str, Selector] | None = None,
) -> Choosing:
    """``select``: native, or a common selector over the family's own space. ``evaluations`` limits those that measure;
    ``instead``: common names that mean something else in this family, such as the shapes of a list.
    """
    allowed("select", select, SELECTS)
    allowed("nesting", nesting, NESTINGS)
    special = {"native": native, **(instead or {})}
    if select in special:
        return Choosing(special[select], nesting)
    make = SELECTORS[select]
    measures = "evaluations" in signature(make).parameters
    return Choosing(make(evaluations=evaluations) if measures else make(), nesting, select == "greedy")


@dataclass(frozen=True, slots=True)
class Asked:
    """How to choose, where a family's own selector is there only once it is trained."""

    select: str
    nesting: str
    evaluations: int

    def __post_init__(self) -> None:
        self.choosing(uniform())  # refuses wrong values before any work

    @property
    def own(self) -> bool:
        """Whether the family's own policy stands as it is."""
        return (self.select, self.nesting) == ("native", "free")

    def choosing(self, native: Selector) -> Choosing:
        return choosing(self.select, self.nesting, self.evaluations, native)


def reserve_of(task: Task, space: Space, choose: Choosing) -> float:
    """MACs that the selection at the end will cost (regime equal MACs; else nobody asks)."""
    if budget_left(task) is None:
        return 0.0
    b = space.backbone
    flat = Scores(torch.ones(b.embed), torch.ones(b.depth, b.heads), torch.ones(b.depth, b.mlp))
    scoring = sum(scoring_cost(task, b, METRIC)) if choose.scored else 0.0
    return scoring + selection_cost(task, space, choose.selector, nesting=choose.nesting, scores=flat)


def choose_on(task: Task, vit: NestedViT, space: Space, choose: Choosing, name: str = "search") -> Selection:
    """``name``: of what is written down, which holds for these weights alone."""
    scores = scored(task, vit, METRIC, "search") if choose.scored else None
    return select_on(task, vit, space, choose.selector, nesting=choose.nesting, scores=scores, name=name)


def answer_on(
    task: Task, vit: NestedViT, space: Space, choose: Choosing, findings: Mapping[str, Any], name: str = "search"
) -> Elastic:
    """The trained family with what is chosen from it; ``findings`` are those so far, their evaluations counted on."""
    selection = choose_on(task, vit, space, choose, name)
    spent = {"evaluations": findings.get("evaluations", 0) + selection.evaluations}
    return Elastic(vit, selection.policy, {**findings, **selection.findings, **spent})
