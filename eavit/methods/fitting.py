"""Fits of a method, and what is reported of trained weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from eavit.model.vit import NestedViT
from eavit.training.coverage import coverage
from eavit.training.passes import Plan, as_plan
from eavit.training.samplers import Feedback, Sampler
from eavit.training.train import Fit, fit_plan


def train(vit: NestedViT, plan: Plan | Sampler, run: Fit, teacher: NestedViT | None = None) -> None:
    """One fit of a method, in place; a sampler that follows the loss is given it."""
    if isinstance(plan, Feedback):
        run = replace(run, feedback=plan)
    with run.ledger.phase("train"):
        fit_plan(vit, as_plan(plan), run, teacher)


def trained_diagnostics(vit: NestedViT, *fits: tuple[Plan | Sampler, Fit]) -> dict[str, Any]:
    """Digest of the trained weights, and what the fits of submodels covered of the MACs axis."""
    steps = [(plan, run.total or 0) for plan, run in fits]
    return {"weights": digest_of(vit), "coverage": coverage(steps, vit.backbone, fits[0][1].seed)}


def digest_of(vit: nn.Module) -> str:
    """16 hex digits that name the weights, to the bit."""
    digest = hashlib.sha256()
    for key, value in sorted(vit.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
