"""Pretraining of the pico backbone that the package ships: plain supervised training from random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from eavit.model.vit import NestedViT, extract
from eavit.training.checkpoint import Saving
from eavit.training.passes import always
from eavit.training.task import Progress, Split, silent
from eavit.training.train import Fit, Schedule, accuracy, fit_plan
from eavit.weights import pico, save_half

SCHEDULE = Schedule(batch=128, lr=2e-3, min_lr=1e-5, warmup=0.05, weight_decay=0.05, smoothing=0.1, drop_path=0.2)


def pretrain_pico(
    fit: Split,
    held_out: Split,
    classes: int,
    path: Path,
    *,
    epochs: float,
    seed: int = 0,
    note: dict[str, str] | None = None,
    progress: Progress = silent,
) -> float:
    """Train the pico ViT on ``fit``, write half-precision weights to ``path``, return top-1 on ``held_out``.

    A killed run goes on from the checkpoint beside ``path``; equal arguments give equal weights on one kind of CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = NestedViT.from_timm(pico(classes))
    full = vit.backbone.full
    schedule = replace(SCHEDULE, epochs=epochs)
    saving = Saving(path.with_suffix(".checkpoint"))
    run = Fit(fit, schedule, seed, saving=saving, progress=progress, phase="pretrain")
    fit_plan(vit, always(full), run)
    top1 = accuracy(vit, full, held_out)
    save_half(extract(vit, full), path, (note or {}) | {"held_out_top1": f"{top1:.4f}"})
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
    return top1
