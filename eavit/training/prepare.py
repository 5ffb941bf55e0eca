"""The common start of every method: pretrained backbone, a linear probe as head, weights sorted by importance; and the
same importance later in a method.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from eavit.model import cost
from eavit.model.importance import PASSES, Scores, score, sorted_by
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT, extract
from eavit.training.task import Split, Task

BATCH = 64
PROBE_IMAGES = 156 * BATCH  # a linear probe and an importance order need no more; whole batches


def _some_batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    return islice(split.batches(BATCH, seed=None), PROBE_IMAGES // BATCH)


def _probe(vit: NestedViT, split: Split) -> None:
    """Fit the head on frozen full-width features of the fit split: multinomial logistic regression (scikit-learn)."""
    headless = extract(vit, vit.backbone.full).eval()
    headless.reset_classifier(0)
    with torch.inference_mode():
        pairs = [(headless(images), labels) for images, labels in _some_batches(split)]
    features, labels = (torch.cat(side).cpu().double().numpy() for side in zip(*pairs, strict=True))
    probe = LogisticRegression(C=1.0, max_iter=1000).fit(features, labels)
    weight, bias = torch.as_tensor(probe.coef_), torch.as_tensor(probe.intercept_)
    if len(probe.classes_) == 2:  # scikit-learn keeps one row for two classes
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    head: Any = vit.head
    rows = torch.as_tensor(probe.classes_, dtype=torch.long)
    with torch.no_grad():
        head.weight[rows] = weight.to(head.weight)
        head.bias[rows] = bias.to(head.bias)


def prepare(task: Task, importance: str = "taylor") -> NestedViT:
    """Pretrained backbone, probed head, weights sorted by importance: the common start of every method."""
    with task.ledger.phase("prepare"):
        task.progress("prepare", 0, 2)
        vit = NestedViT.from_timm(task.backbone()).eval()
        seen = min(len(task.fit), PROBE_IMAGES)
        full = float(cost.macs(vit.backbone, vit.backbone.full))
        _probe(vit, task.fit)
        task.progress("prepare", 1, 2)
        vit = sorted_by(vit, _scores(vit, task.fit, importance))
        forward, backward = PASSES[importance]
        task.ledger.add(forward_macs=(1 + forward) * full * seen, backward_macs=backward * full * seen, images=seen)
        task.progress("prepare", 2, 2)
    return vit


def scored(task: Task, vit: NestedViT, metric: str, phase: str) -> Scores:
    """Importance of the units in the order of these weights, on the fit split; charged to the phase."""
    with task.ledger.phase(phase):
        found = _scores(vit, task.fit, metric)
        forward, backward = scoring_cost(task, vit.backbone, metric)
        images = min(len(task.fit), PROBE_IMAGES) if forward else 0
        task.ledger.add(forward_macs=forward, backward_macs=backward, images=images)
    return found


def scoring_cost(task: Task, backbone: Backbone, metric: str) -> tuple[float, float]:
    """MACs forward and backward that :func:`scored` charges."""
    full = float(cost.macs(backbone, backbone.full)) * min(len(task.fit), PROBE_IMAGES)
    forward, backward = PASSES[metric]
    return forward * full, backward * full


def _scores(vit: NestedViT, split: Split, metric: str) -> Scores:
    device = next(vit.parameters()).device
    batches = ((images.to(device), labels.to(device)) for images, labels in _some_batches(split))
    return score(vit, batches, metric)
