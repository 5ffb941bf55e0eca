"""Scores of a whole test split, from all of its logits and labels; names and titles are in :mod:`harness.tasks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn.functional import interpolate

from harness.tasks import AUROC, IGNORED, MEAN_AVERAGE_PRECISION, MEAN_IOU

Array = NDArray[np.float64]
PIECE = 32  # masks at once


def split_scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Every score of several labels an image, (n, classes), or of masks (n, height, width)."""
    if labels.ndim == 3:
        return {MEAN_IOU: _mean_iou(logits, labels)}
    answers, truth = logits.double().numpy(), labels.double().numpy()
    known = _known(truth)
    return {
        name: float(np.mean([score(truth[:, each], answers[:, each]) for each in known])) for name, score in _OF.items()
    }


def chance_levels(labels: Tensor, classes: int) -> dict[str, float]:
    """Score of guessing: of a random order of the images, or of the most frequent class for all pixels."""
    if labels.ndim == 3:
        counts = torch.bincount(labels[labels != IGNORED].long(), minlength=classes).double()
        return {MEAN_IOU: float(counts.max() / counts.sum() / (counts > 0).sum())}
    truth = labels.double().numpy()
    return {MEAN_AVERAGE_PRECISION: float(truth[:, _known(truth)].mean()), AUROC: 0.5}


def enlarged_logits(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits (n, tokens, classes), whose last ones are those of a square of patches, as (n, classes, height, width) of
    the masks.
    """
    side = isqrt(logits.shape[1])
    patches = logits[:, -side * side :].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return interpolate(patches, masks.shape[-2:], mode="bilinear", align_corners=False)


def _mean_iou(logits: Tensor, masks: Tensor) -> float:
    """Mean over the classes that are there, or are said to be, of intersection by union in all images together."""
    classes = logits.shape[-1]
    table = np.zeros((classes, classes), dtype=np.int64)  # pixels by class and answer
    for some, truth in zip(logits.split(PIECE), masks.split(PIECE), strict=True):
        counted = truth != IGNORED
        answers = enlarged_logits(some, truth).argmax(1)[counted].numpy()
        np.add.at(table, (truth[counted].numpy(), answers), 1)
    either = table.sum(0) + table.sum(1) - table.diagonal()
    return float(np.mean(table.diagonal()[either > 0] / either[either > 0]))


def _known(truth: Array) -> NDArray[np.intp]:
    """Classes that some images have and some have not: the others have no score."""
    return np.flatnonzero(truth.min(0) != truth.max(0))


_OF: Mapping[str, Callable[[Array, Array], float]] = {
    MEAN_AVERAGE_PRECISION: average_precision_score,
    AUROC: roc_auc_score,
}
