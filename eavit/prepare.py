"""The common start of every method: pretrained backbone, a linear probe as head, weights sorted by importance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from eavit import cost
from eavit.importance import sort_by_importance
from eavit.task import Split, Task
from eavit.vit import NestedViT, extract

PROBE_IMAGES = 10_000  # a linear probe and an importance order need no more
BATCH = 64


def _some_batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    return islice(split.batches(BATCH, seed=None), max(1, PROBE_IMAGES // BATCH))


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
        vit = sort_by_importance(vit, _some_batches(task.fit), metric=importance)
        passes = {"taylor": (2, 2), "activation": (2, 0)}.get(importance, (1, 0))  # the probe's forward is one
        task.ledger.add(forward_macs=passes[0] * full * seen, backward_macs=passes[1] * full * seen, images=seen)
        task.progress("prepare", 2, 2)
    return vit
