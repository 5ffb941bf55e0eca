"""Scores of a task, from logits and labels of a whole split: what a search maximises. Higher is better, up to 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from eavit.model.objective import IGNORED, pixel_logits
from eavit.training.execution import PLAIN, Execution
from eavit.training.task import Split, Task

ACCURACY = "accuracy"
PIECE = 32  # masks at once, whose logits are brought to their size


def score_of(task: Task) -> str:
    """Name of the score that a task is about; a task that names none is a classification."""
    return str(getattr(task, "score", ACCURACY))


def accuracy_of(logits: Tensor, labels: Tensor) -> float:
    """Share of images whose class has the largest logit."""
    return int((logits.argmax(-1) == labels).sum()) / len(labels)


def mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """Mean over classes of the average precision of ranking all images by a class's logit."""
    from sklearn.metrics import average_precision_score  # late: it takes half a second

    return _over_classes(average_precision_score, logits, labels)


def auroc(logits: Tensor, labels: Tensor) -> float:
    """Mean over classes of the area under the curve of true over false positives."""
    from sklearn.metrics import roc_auc_score

    return _over_classes(roc_auc_score, logits, labels)


def mean_iou(logits: Tensor, labels: Tensor) -> float:
    """Mean over classes of the pixels that are rightly of a class by those that are of it or said to be, all images
    together; classes of which there are none are left out.
    """
    classes = logits.shape[-1]
    pairs = torch.zeros(classes * classes, dtype=torch.int64, device=logits.device)
    for some, masks in zip(logits.split(PIECE), labels.to(logits.device).split(PIECE), strict=True):
        said, truth = pixel_logits(some, masks).argmax(1), masks.long()
        counted = truth != IGNORED
        pairs += torch.bincount(truth[counted] * classes + said[counted], minlength=classes * classes)
    table = pairs.view(classes, classes).double()
    either = table.sum(0) + table.sum(1) - table.diag()
    return float((table.diag() / either)[either > 0].mean())


def _over_classes(score: Callable[..., Any], logits: Tensor, labels: Tensor) -> float:
    """Classes that all images have, or none has, have no score; ValueError where there is no other."""
    known = (labels.min(0).values != labels.max(0).values).nonzero().flatten().tolist()
    if not known:
        raise ValueError(f"labels of {len(labels)} images: each class needs an image that has it and one that has not")
    answers, truth = logits.double().cpu().numpy(), labels.cpu().numpy()
    return sum(float(score(truth[:, each], answers[:, each])) for each in known) / len(known)


SCORES: dict[str, Callable[[Tensor, Tensor], float]] = {
    ACCURACY: accuracy_of,
    "mean_average_precision": mean_average_precision,
    "auroc": auroc,
    "mean_iou": mean_iou,
}


@torch.inference_mode()
def score_on(
    split: Split,
    score: str,
    model: nn.Module,
    *widths: Any,
    execution: Execution = PLAIN,
    batch: int = 512,
) -> float:
    """A score of ``model(images, *widths)`` on a split, in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    with execution.autocast(model):
        pieces = execution.pieces(split.batches(batch))
        pairs = [(model(images.to(device), *widths), labels.to(device)) for images, labels in pieces]
    return SCORES[score](*map(torch.cat, zip(*pairs, strict=True)))
