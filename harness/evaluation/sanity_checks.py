"""Sanity checks that need the adapted weights: run inside the cell, on images of the fit split, never the test split.

They leave the adapted method and every random generator as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.evaluation import scores
from harness.evaluation.check_names import OVERFIT, SLICED
from harness.protocol import Adapted, Split
from harness.tasks import IGNORED

IMAGES = 16
STEPS = 40
RATE = 1e-3  # of the first step
ENOUGH = 0.5  # of the first loss: the check passes as soon as the loss is below
TOLERANCE = 1e-4  # relative to the largest logit: float32 through a dozen layers


def run_sanity_checks(adapted: Adapted, choices: Mapping[str, Any], fit: Split) -> dict[str, str]:
    """Map each check to "" where it passed, else to the reason; a check that cannot be run is absent.

    ``choices``: by key, the smallest first. The largest is trained, all are compared.
    """
    images, labels = next(iter(fit.batches(min(IMAGES, len(fit)))))
    outcomes: dict[str, str | None] = {SLICED: _sliced(adapted, choices, images)}
    if choices:
        outcomes[OVERFIT] = overfit_one_batch(
            adapted.module(list(choices.values())[-1]), images, labels, fit.num_classes
        )
    return {name: reason for name, reason in outcomes.items() if reason is not None}


def overfit_one_batch(module: nn.Module, images: Tensor, labels: Tensor, classes: int) -> str | None:
    """Train a copy of the module on one batch, each label replaced by the next class, or, of several labels, by its
    opposite: "" if it learns, else the reason.

    An adapted module knows the true labels already, so weights that no gradient reaches would pass with them. None
    where the module has nothing to train.
    """
    learner = copy.deepcopy(module).eval()  # eval: dropout must not decide
    weights = [weight.requires_grad_(True) for weight in learner.parameters() if weight.is_floating_point()]
    if not weights:
        return None
    device = weights[0].device
    images, targets = images.to(device), _other_labels(labels, classes).to(device)
    optimiser = torch.optim.Rprop(weights, lr=RATE)  # finds its own step sizes: any scale of weights
    losses = []
    with torch.enable_grad():
        for _ in range(STEPS):
            loss = _loss(learner(images), targets)
            if not loss.requires_grad:
                return "no gradient reaches the weights"
            losses.append(float(loss.detach()))
            if losses[-1] < ENOUGH * losses[0]:
                return ""
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return f"{STEPS} steps on one batch took the loss from {losses[0]:.3f} to {losses[-1]:.3f} only"


def _other_labels(labels: Tensor, classes: int) -> Tensor:
    if labels.ndim == 2:
        return 1 - labels
    others = (labels.long() + 1) % classes
    return torch.where(labels == IGNORED, IGNORED, others) if labels.ndim == 3 else others


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    if targets.ndim == 2:
        return nn.functional.binary_cross_entropy_with_logits(logits, targets)
    answers = scores.enlarged_logits(logits, targets) if targets.ndim == 3 else logits
    return nn.functional.cross_entropy(answers, targets, ignore_index=IGNORED)


def _sliced(adapted: Adapted, choices: Mapping[str, Any], images: Tensor) -> str | None:
    """None where the method has no ``logits(images, choice)`` to compare the module with."""
    logits = getattr(adapted, "logits", None)
    if logits is None or not choices:
        return None
    for key, choice in choices.items():
        reason = logits_differ(adapted.module(choice), images, logits(images, choice))
        if reason:
            return f"{key}: {reason}"
    return ""


def logits_differ(module: nn.Module, images: Tensor, expected: Tensor) -> str:
    """Describe how the module's logits differ from ``expected``, those of the shared weights; "" where they do not."""
    device = next((weight.device for weight in module.parameters()), images.device)
    with torch.inference_mode():
        logits, expected = module(images.to(device)).cpu(), expected.cpu()
        if logits.shape != expected.shape:
            return f"logits {tuple(logits.shape)} from the module, {tuple(expected.shape)} from the shared weights"
        gap, scale = float((logits - expected).abs().max()), max(1.0, float(expected.abs().max()))
    return "" if gap <= TOLERANCE * scale else f"logits differ by {gap:.2g}"  # NaN is no equality either
