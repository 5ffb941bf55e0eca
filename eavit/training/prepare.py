"""The common start of every method: pretrained backbone, a linear probe as head, weights sorted by importance; and the
same sorting later in a method.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from eavit.model import cost
from eavit.model.importance import PASSES, UNITS, Scores, score, sorted_by
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT, extract
from eavit.training.task import Spent, Split, Task

BATCH = 64
PROBE_IMAGES = 156 * BATCH  # a linear probe and an importance order need no more; whole batches


def _some_batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    return islice(split.batches(BATCH, seed=None), PROBE_IMAGES // BATCH)


def _probe(vit: NestedViT, split: Split) -> None:
    """Fit the head on frozen full-width features of the fit split: multinomial logistic regression (scikit-learn)."""
    from sklearn.linear_model import (
        LogisticRegression,  # late: it takes half a second, and a check of a suite needs none
    )

    headless = extract(vit, vit.backbone.full).eval()
    headless.reset_classifier(0)
    with torch.inference_mode():
        pairs = [(headless(images), labels) for images, labels in _some_batches(split)]
    features, labels = (torch.cat(side).cpu().double().numpy() for side in zip(*pairs, strict=True))
    probe = LogisticRegression(C=1.0, max_iter=1000).fit(features, labels)
    weight, bias = torch.as_tensor(probe.coef_), torch.as_tensor(probe.intercept_)
    if len(probe.classes_) == 2:  # scikit-learn keeps one row for two classes
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    heads: list[Any] = [getattr(vit, name) for name in vit.head_names]  # of several the logits are averaged
    rows = torch.as_tensor(probe.classes_, dtype=torch.long)
    with torch.no_grad():
        for head in heads:
            head.weight[rows] = weight.to(head.weight)
            head.bias[rows] = bias.to(head.bias)


def start(task: Task) -> NestedViT:
    """The task's backbone as it was pretrained."""
    with task.ledger.phase("prepare"):
        task.progress("prepare", 0, 2)
        vit: NestedViT = NestedViT.from_timm(task.backbone()).eval()
    return vit


def prepare(task: Task, vit: NestedViT, importance: str = "taylor") -> NestedViT:
    """Probe the head in place; a copy with weights sorted by importance: the common start of every method."""
    with task.ledger.phase("prepare"):
        _probe(vit, task.fit)
        task.progress("prepare", 1, 2)
        vit = sorted_by(vit, _scores(vit, task.fit, importance))
        task.ledger.add(**_spent(task, vit.backbone, importance, probes=1).amounts)
        task.progress("prepare", 2, 2)
    return vit


def preparation_cost(task: Task, backbone: Backbone, importance: str = "taylor") -> float:
    """MACs of :func:`prepare`."""
    return _spent(task, backbone, importance, probes=1).macs


def resorted(task: Task, vit: NestedViT, metric: str, units: Collection[str] = UNITS) -> NestedViT:
    """A copy with these units sorted by importance on the fit split and the same function at full width; charged."""
    return sorted_by(vit, scored(task, vit, metric, "prepare"), units)


def scored(task: Task, vit: NestedViT, metric: str, phase: str) -> Scores:
    """Importance of the units in the order of these weights, on the fit split; charged to the phase."""
    with task.ledger.phase(phase):
        scores = _scores(vit, task.fit, metric)
        task.ledger.add(**_spent(task, vit.backbone, metric).amounts)
    return scores


def scoring_cost(task: Task, backbone: Backbone, metric: str) -> float:
    """MACs of :func:`scored` and :func:`resorted`."""
    return _spent(task, backbone, metric).macs


def _spent(task: Task, backbone: Backbone, metric: str, probes: int = 0) -> Spent:
    """Passes of the full model over the images that are seen: of a probe, and of the metric."""
    images = min(len(task.fit), PROBE_IMAGES)
    full = float(cost.macs(backbone, backbone.full)) * images
    forward, backward = PASSES[metric]
    return Spent((probes + forward) * full, backward * full, images if probes + forward else 0)


def _scores(vit: NestedViT, split: Split, metric: str) -> Scores:
    device = next(vit.parameters()).device
    batches = ((images.to(device), labels.to(device)) for images, labels in _some_batches(split))
    return score(vit, batches, metric)
