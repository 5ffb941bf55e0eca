"""A family trained in one fit: the whole of a method that is a space, a plan and a selector."""

from __future__ import annotations

from typing import Any

from eavit.methods.choosing import Choosing, answer_on, reserve_of
from eavit.methods.recipe import Elastic, digest_of, train_on
from eavit.model.vit import NestedViT
from eavit.space.space import Space
from eavit.training.coverage import coverage
from eavit.training.spending import Portion
from eavit.training.steps import Plan
from eavit.training.task import Task


def train_once(task: Task, vit: NestedViT, space: Space, plan: Plan, choose: Choosing) -> dict[str, Any]:
    """The family's one fit, with MACs put aside for the selection (regime equal MACs); what it trained, as findings."""
    steps = train_on(task, vit, plan, portion=Portion(reserve=reserve_of(task, space, choose)))
    return {"weights": digest_of(vit), "coverage": coverage([(plan, steps)], vit.backbone, task.seed)}


def one_fit(task: Task, vit: NestedViT, space: Space, plan: Plan, choose: Choosing) -> Elastic:
    """Train once, then choose."""
    return answer_on(task, vit, space, choose, train_once(task, vit, space, plan, choose))
