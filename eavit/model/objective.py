"""Losses of a task, which its labels name: classes int64 (b,) of classification, 0 and 1, float (b, classes), of
multi-label classification, or masks uint8 (b, height, width) of segmentation. Logits are (b, classes), of segmentation
(b, tokens, classes): those of the patches, in rows, come last.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = 255  # class of pixels that do not count


def wide(x: Tensor) -> Tensor:
    """Convert to float32 at least: sums of half-precision values overflow."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def is_multi_label(labels: Tensor) -> bool:
    """Return whether an image may have any number of classes."""
    return labels.ndim == 2


def is_dense(labels: Tensor) -> bool:
    """Return whether each pixel has a class."""
    return labels.ndim == 3


def patches_of(tokens: Tensor) -> Tensor:
    """The patches of (b, tokens, n), a square of them, as (b, n, rows, columns); tokens before them are left out."""
    side = isqrt(tokens.shape[1])
    patches: Tensor = tokens[:, -side * side :].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return patches


def pixel_logits(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits of patches brought to the size of the masks, (b, classes, height, width)."""
    pixels: Tensor = F.interpolate(patches_of(wide(logits)), masks.shape[-2:], mode="bilinear", align_corners=False)
    return pixels


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of one class an image, mean binary cross-entropy over all classes of all images, or cross-entropy
    over all pixels that count.
    """
    if is_dense(labels):
        pixels = pixel_logits(logits, labels)
        return F.cross_entropy(pixels, labels.long(), ignore_index=IGNORED, label_smoothing=smoothing)
    if not is_multi_label(labels):
        return F.cross_entropy(wide(logits), labels, label_smoothing=smoothing)
    return F.binary_cross_entropy_with_logits(wide(logits), labels * (1 - smoothing) + smoothing / 2)


def distillation_loss(logits: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Loss of the answers of a teacher, where ``labels`` are those of the task; of segmentation a mean over tokens."""
    if is_dense(labels):
        logits, teacher = logits.flatten(0, 1), teacher.flatten(0, 1)
    return (binary_distillation if is_multi_label(labels) else distillation)(logits, teacher, temperature)


def distillation(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence from the teacher's softened classes; no gradient reaches the teacher (Hinton, 2015)."""
    target = F.log_softmax(teacher.detach() / temperature, -1)
    student = F.log_softmax(logits / temperature, -1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2


def binary_distillation(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence of each class's softened yes and no from the teacher's, mean over classes and images."""
    student, target = (wide(side) / temperature for side in (logits, teacher.detach()))
    mine, theirs = (F.logsigmoid(torch.stack([side, -side])) for side in (student, target))
    return F.kl_div(mine, theirs, reduction="none", log_target=True).sum(0).mean() * temperature**2
