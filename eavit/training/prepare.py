"""The common start of every method: pretrained backbone, a linear probe as head, weights sorted by importance; and the
same sorting later in a method.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from eavit.model import cost
from eavit.model.attributes import fault_of_statistics
from eavit.model.calibration import calibrate
from eavit.model.importance import METRICS, PASSES, UNITS, Scores, score, sorted_by
from eavit.model.objective import IGNORED, is_dense, is_multi_label, patches_of
from eavit.model.rotation import faults_of_rotation, rotate
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT, extract
from eavit.training.execution import Execution
from eavit.training.task import Spent, Split, Task

BATCH = 64
PROBE_IMAGES = 156 * BATCH  # a linear probe and an importance order need no more; whole batches
PROBE_PATCHES = 20_000  # of segmentation
FEW_IMAGES = 4 * BATCH  # means and variances of inputs need no more
ROTATED, CALIBRATED = "rotated", "variance"
IMPORTANCES = ("auto", ROTATED, *METRICS)  # what the option ``importance`` of the methods can be


def _some_batches(split: Split, images: int = PROBE_IMAGES) -> Iterator[tuple[Tensor, Tensor]]:
    return islice(split.batches(BATCH, seed=None), images // BATCH)


def _few_pieces(task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    return Execution.of(task.schedule).pieces(_some_batches(task.fit, FEW_IMAGES))


def order_of(vit: NestedViT, importance: str) -> str:
    """The order that ``importance`` means for this backbone: auto is rotated, or else variance, or else taylor."""
    if importance != "auto":
        return importance
    if not faults_of_rotation(vit):
        return ROTATED
    return "taylor" if fault_of_statistics(vit) else CALIBRATED


def _probe(vit: NestedViT, split: Split, execution: Execution) -> None:
    """Fit the head on frozen full-width features of the fit split: logistic regression (scikit-learn)."""
    headless = extract(vit, vit.backbone.full).eval()
    headless.reset_classifier(0)
    device = next(vit.parameters()).device
    with torch.inference_mode(), execution.autocast(vit):
        pieces = execution.pieces(_some_batches(split))
        pairs = [(headless(images.to(device)), labels) for images, labels in pieces]
    features, labels = (torch.cat(side) for side in zip(*pairs, strict=True))
    if is_dense(labels):
        features, labels = _patches(features, labels.to(features.device))
    heads: list[Any] = [getattr(vit, name) for name in vit.head_names]  # of several the logits are averaged
    with torch.no_grad():
        for rows, weight, bias in _regressions(features.cpu().double().numpy(), labels.cpu()):
            for head in heads:
                head.weight[rows] = weight.to(head.weight)
                head.bias[rows] = bias.to(head.bias)


def _patches(features: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Features of patches, at most ``PROBE_PATCHES`` evenly taken, and the classes of the pixels at their centres."""
    patches = patches_of(features)
    centres = F.interpolate(masks[:, None].float(), patches.shape[-2:], mode="nearest-exact").long().flatten()
    rows = (centres != IGNORED).nonzero().flatten()
    rows = rows[:: max(1, -(-len(rows) // PROBE_PATCHES))]
    return patches.permute(0, 2, 3, 1).flatten(0, 2)[rows], centres[rows]


def _regressions(features: NDArray[np.float64], labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Classes with their weights (classes, channels) and biases: of one regression, or of one for each class where an
    image may have several. Classes that all of the images have, or none, are left out.
    """
    if not is_multi_label(labels):
        classes, weight, bias = _regression(features, labels.numpy())
        if len(classes) == 2:  # scikit-learn keeps one row for two classes
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        yield classes, weight, bias
        return
    for row, truth in enumerate(labels.T.numpy()):
        if truth.min() != truth.max():
            yield torch.tensor([row]), *_regression(features, truth)[1:]


def _regression(features: NDArray[np.float64], labels: NDArray[Any]) -> tuple[Tensor, Tensor, Tensor]:
    # Late: it takes half a second, and a check of a suite needs none.
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(C=1.0, max_iter=1000).fit(features, labels)
    return torch.as_tensor(probe.classes_).long(), torch.as_tensor(probe.coef_), torch.as_tensor(probe.intercept_)


def start(task: Task) -> NestedViT:
    """The task's backbone as it was pretrained."""
    with task.ledger.phase("prepare"):
        task.progress("prepare", 0, 2)
        vit: NestedViT = NestedViT.from_timm(task.backbone()).eval()
    return vit


def prepare(task: Task, vit: NestedViT, importance: str = "taylor") -> NestedViT:
    """Probe the head in place, on the device of the training; a copy with weights sorted by importance: the common
    start of every method.

    ``rotated``: the stream is rotated first, so that channels are principal components. ``rotated`` and ``variance``
    end with a calibration: submodels replace dropped units by their means.
    """
    execution = Execution.of(task.schedule)
    with task.ledger.phase("prepare"):
        vit.to(execution.device)
        _probe(vit, task.fit, execution)
        task.progress("prepare", 1, 2)
        order = order_of(vit, importance)
        if order == ROTATED:
            with execution.autocast(vit):
                vit = rotate(vit, _few_pieces(task))
        units = tuple(unit for unit in UNITS if order != ROTATED or unit != "channels")
        vit = sorted_by(vit, _scores(task, vit, order), units)
        if order in (ROTATED, CALIBRATED):
            with execution.autocast(vit):
                vit = calibrate(vit, _few_pieces(task))
        task.ledger.add(**_spent(task, vit.backbone, order, probes=1).amounts)
        task.progress("prepare", 2, 2)
    return vit


def preparation_cost(task: Task, backbone: Backbone, importance: str = "taylor") -> float:
    """MACs of :func:`prepare`; of auto, those of rotated."""
    order = ROTATED if importance == "auto" else importance
    return _spent(task, backbone, order, probes=1).macs


def resorted(task: Task, vit: NestedViT, importance: str, units: Collection[str] = UNITS) -> NestedViT:
    """A copy with these units sorted by importance on the fit split and the same function at full width; charged."""
    return sorted_by(vit, scored(task, vit, order_of(vit, importance), "prepare"), units)


def scored(task: Task, vit: NestedViT, importance: str, phase: str) -> Scores:
    """Importance of the units in the order of these weights, on the fit split; charged to the phase."""
    order = order_of(vit, importance)
    with task.ledger.phase(phase):
        scores = _scores(task, vit, order)
        task.ledger.add(**_spent(task, vit.backbone, order).amounts)
    return scores


def scoring_cost(task: Task, backbone: Backbone, importance: str) -> float:
    """MACs of :func:`scored` and :func:`resorted`; of auto, those of rotated."""
    return _spent(task, backbone, ROTATED if importance == "auto" else importance).macs


def _spent(task: Task, backbone: Backbone, order: str, probes: int = 0) -> Spent:
    """Passes of the full model over the images that are seen: of the metric; with a probe also of that, of the rotation
    and of the calibration.
    """
    b, full = backbone, float(cost.macs(backbone, backbone.full))
    products = b.embed**2 * (2 * b.depth * b.tokens + 1) / full if order == ROTATED and probes else 0.0  # covariances
    others = probes * {ROTATED: 2, CALIBRATED: 1}.get(order, 0)
    forward, backward = PASSES[_metric(order)]
    images, seen = min(len(task.fit), PROBE_IMAGES), min(len(task.fit), _images(order))
    forwards = probes * images + forward * seen + (others + products) * min(len(task.fit), FEW_IMAGES)
    return Spent(forwards * full, backward * seen * full, max(images * bool(probes), seen * bool(forward)))


def _metric(order: str) -> str:
    return CALIBRATED if order == ROTATED else order


def _images(order: str) -> int:
    """Images that the metric of an order is taken on."""
    return FEW_IMAGES if _metric(order) == CALIBRATED else PROBE_IMAGES


def _scores(task: Task, vit: NestedViT, order: str) -> Scores:
    """Scores on the fit split, where the weights are."""
    execution, metric = Execution.of(task.schedule), _metric(order)
    _, backward = PASSES[metric]
    with (execution.for_gradients if backward else execution).autocast(vit):
        return score(vit, _some_batches(task.fit, _images(order)), metric, micro_batch=execution.micro_batch)
