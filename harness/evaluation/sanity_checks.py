"""Rungs of the sanity ladder that need the adapted weights: run in the cell, on images to train on, never on the test.

Both leave the adapted method, and every random generator, as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.evaluation.check_names import OVERFIT, SLICED
from harness.protocol import Adapted, Split

IMAGES = 16
STEPS = 40
RATE = 1e-3  # of the first step
LEFT = 0.5  # of its loss on one batch: the rung ends as soon as no more is left
CLOSE = 1e-4  # relative to the largest logit: float32 through a dozen layers


def climb(adapted: Adapted, choices: Mapping[str, Any], fit: Split) -> dict[str, str]:
    """Rung to "" where it passed, else why it failed; a rung that could not be run is not there.

    ``choices``: by key, the smallest first. The largest is trained, all are compared.
    """
    images, labels = next(iter(fit.batches(min(IMAGES, len(fit)))))
    found: dict[str, str | None] = {SLICED: _sliced(adapted, choices, images)}
    if choices:
        found[OVERFIT] = overfits(adapted.module(list(choices.values())[-1]), images, labels, fit.num_classes)
    return {name: why for name, why in found.items() if why is not None}


def overfits(module: nn.Module, images: Tensor, labels: Tensor, classes: int) -> str | None:
    """Whether a copy of the module learns one batch, each class under the name of the next one.

    With their own names an adapted module knows them already, and weights that no gradient reaches would pass. None
    where the module has nothing to train.
    """
    learner = copy.deepcopy(module).eval()  # eval: what is asked is whether gradients arrive, not dropout's noise
    weights = [weight.requires_grad_(True) for weight in learner.parameters() if weight.is_floating_point()]
    if not weights:
        return None
    device = weights[0].device
    images, targets = images.to(device), ((labels + 1) % classes).to(device)
    optimiser = torch.optim.Rprop(weights, lr=RATE)  # finds its own step sizes: any scale of weights
    losses = []
    with torch.enable_grad():
        for _ in range(STEPS):
            loss = nn.functional.cross_entropy(learner(images), targets)
            if not loss.requires_grad:
                return "no gradient reaches the weights"
            losses.append(float(loss.detach()))
            if losses[-1] < LEFT * losses[0]:
                return ""
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return f"{STEPS} steps on one batch took the loss from {losses[0]:.3f} to {losses[-1]:.3f} only"


def _sliced(adapted: Adapted, choices: Mapping[str, Any], images: Tensor) -> str | None:
    """None where the method has no ``logits(images, choice)``: then there is only the module to believe."""
    logits = getattr(adapted, "logits", None)
    if logits is None or not choices:
        return None
    for key, choice in choices.items():
        why = differ(adapted.module(choice), images, logits(images, choice))
        if why:
            return f"{key}: {why}"
    return ""


def differ(module: nn.Module, images: Tensor, wanted: Tensor) -> str:
    """How the module's logits differ from those of the shared weights; "" where they do not."""
    with torch.inference_mode():
        found = module(images)
        if found.shape != wanted.shape:
            return f"logits {tuple(found.shape)} from the module, {tuple(wanted.shape)} from the shared weights"
        gap, scale = float((found - wanted).abs().max()), max(1.0, float(wanted.abs().max()))
    return "" if gap <= CLOSE * scale else f"logits differ by {gap:.2g}"  # NaN is no equality either
