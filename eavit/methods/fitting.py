"""Fits of a method on a task, and the whole of a method that is one fit: a space, a plan and a selector."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from eavit.methods.answers import Elastic
from eavit.methods.choosing import Choosing
from eavit.model.vit import NestedViT
from eavit.space.space import Space
from eavit.training.allocation import Phase, allocate, plan_cost
from eavit.training.coverage import coverage
from eavit.training.passes import Plan
from eavit.training.plans import as_plan
from eavit.training.prepare import preparation_cost, prepare
from eavit.training.samplers import Feedback, Sampler
from eavit.training.task import Task
from eavit.training.train import Fit, fit_plan


def train(vit: NestedViT, plan: Plan | Sampler, run: Fit, teacher: NestedViT | None = None) -> None:
    """One fit of a method, in place; a sampler that follows the loss receives it."""
    if isinstance(plan, Feedback):
        run = replace(run, feedback=plan)
    with run.ledger.phase("train"):
        fit_plan(vit, as_plan(plan), run, teacher)


def one_fit(task: Task, vit: NestedViT, space: Space, plan: Plan, choose: Choosing, importance: str) -> Elastic:
    """Prepare, train once, choose."""
    trained, diagnostics = train_once(task, vit, space, plan, choose, importance)
    return choose.answer(task, trained, space, diagnostics)


def train_once(
    task: Task, vit: NestedViT, space: Space, plan: Plan, choose: Choosing, importance: str
) -> tuple[NestedViT, dict[str, Any]]:
    """Prepare and train once; with equal MACs the selection that follows is paid for beforehand."""
    allocation = allocate(
        task,
        partial(preparation_cost, task, vit.backbone, importance),
        Phase("train", plan_cost(task, vit.backbone, plan)),
        partial(choose.cost, task, space),
    )
    vit, run = prepare(task, vit, importance), allocation.fit("train")
    train(vit, plan, run)
    return vit, trained_diagnostics(vit, (plan, run))


def trained_diagnostics(vit: NestedViT, *fits: tuple[Plan | Sampler, Fit]) -> dict[str, Any]:
    """Digest of the trained weights, and what the fits of submodels covered of the MACs axis."""
    steps = [(plan, run.total or 0) for plan, run in fits]
    return {"weights": digest_of(vit), "coverage": coverage(steps, vit.backbone, fits[0][1].seed)}


def steps_taken(*runs: Fit) -> dict[str, int]:
    """Steps of the fits of a method, by phase."""
    return {run.phase: run.total or 0 for run in runs}


def digest_of(vit: NestedViT) -> str:
    """16 hex digits that name the weights, to the bit."""
    digest = hashlib.sha256()
    for key, value in sorted(vit.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
