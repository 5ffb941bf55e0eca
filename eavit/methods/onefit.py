"""What families trained in one fit have in common: train, select by their own rule or by a common one, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from eavit import cost
from eavit.importance import Scores, taylor
from eavit.options import allowed
from eavit.prepare import BATCH, PROBE_IMAGES
from eavit.recipe import Elastic, Portion, budget_left, coverage, digest_of, train_on
from eavit.selecting import NESTINGS, select_on, selection_cost
from eavit.selectors import SELECTORS, Selection, Selector
from eavit.space import Space
from eavit.steps import Plan
from eavit.submodel import Backbone
from eavit.task import Task
from eavit.vit import NestedViT

SELECTS = ("native", *SELECTORS)
SCORED = max(1, PROBE_IMAGES // BATCH)  # batches of an importance score, as at the start


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


def train_once(task: Task, vit: NestedViT, space: Space, plan: Plan, choose: Choosing) -> dict[str, Any]:
    """The family's one fit, with MACs put aside for the selection (regime equal MACs); what it trained, as findings."""
    b, reserve = vit.backbone, 0.0
    if budget_left(task) is not None:
        flat = Scores(torch.ones(b.embed), torch.ones(b.depth, b.heads), torch.ones(b.depth, b.mlp))
        reserve = selection_cost(task, space, choose.selector, nesting=choose.nesting, scores=flat)
        reserve += sum(_scoring(task, b)) if choose.scored else 0
    steps = train_on(task, vit, plan, portion=Portion(reserve=reserve))
    return {"weights": digest_of(vit), "coverage": coverage(plan, b, task.seed, steps)}


def choose_on(task: Task, vit: NestedViT, space: Space, choose: Choosing, name: str = "search") -> Selection:
    """``name``: of what is written down, which holds for these weights alone."""
    scores = _scores(task, vit) if choose.scored else None
    return select_on(task, vit, space, choose.selector, nesting=choose.nesting, scores=scores, name=name)


def one_fit(task: Task, vit: NestedViT, space: Space, plan: Plan, choose: Choosing) -> Elastic:
    """Train once, then choose: the whole of a method that is a space, a plan and a selector."""
    findings = train_once(task, vit, space, plan, choose)
    selection = choose_on(task, vit, space, choose)
    return Elastic(vit, selection.policy, findings | dict(selection.findings))


def _scoring(task: Task, backbone: Backbone) -> tuple[float, float]:
    """MACs forward and backward of :func:`_scores`."""
    forward = float(cost.macs(backbone, backbone.full)) * _scored_images(task)
    return forward, 2 * forward


def _scored_images(task: Task) -> int:
    return min(len(task.fit), SCORED * BATCH)


def _scores(task: Task, vit: NestedViT) -> Scores:
    """Taylor importance of the units in the order of the trained weights, on the fit split; charged."""
    device = next(vit.parameters()).device

    def moved(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pair[0].to(device), pair[1].to(device)

    with task.ledger.phase("search"):
        found = taylor(vit, map(moved, islice(task.fit.batches(BATCH), SCORED)))
        forward, backward = _scoring(task, vit.backbone)
        task.ledger.add(forward_macs=forward, backward_macs=backward, images=_scored_images(task))
    return found
