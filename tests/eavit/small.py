"""A tiny trainable ViT, data that it can learn, and a task around them: what tests of training and methods share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from eavit.model.vit import NestedViT
from eavit.training.task import Spent, Target

RECIPE: dict[str, Any] = {
    "img_size": 4,
    "patch_size": 2,
    "in_chans": 1,
    "num_classes": 3,
    "embed_dim": 12,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2.0,
}


def plain(num_classes: int = 3, seed: int = 0, **changes: Any) -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VisionTransformer(**(RECIPE | {"num_classes": num_classes} | changes)).eval()


def tiny(seed: int = 0, **changes: Any) -> NestedViT:
    return NestedViT.from_timm(plain(seed=seed, **changes))


@dataclass(frozen=True)
class Blobs:
    """Images of 4 x 4 that are bright, dark or checked: learnt in a few dozen steps."""

    count: int = 96
    seed: int = 0
    poison: int | None = None  # index of an image that is not a number

    def _all(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        labels = torch.arange(self.count) % 3
        images = 0.3 * torch.randn(self.count, 1, 4, 4, generator=generator)
        checked = torch.tensor([1.0, -1.0]).repeat(8).view(4, 4)
        images += torch.stack([torch.ones(4, 4), -torch.ones(4, 4), checked])[labels][:, None]
        if self.poison is not None:
            images[self.poison] = float("nan")
        return images, labels

    @property
    def labels(self) -> Tensor:
        return self._all()[1]

    @property
    def num_classes(self) -> int:
        return 3

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._all()
        if seed is None:
            yield from zip(images.split(size), labels.split(size), strict=True)
            return
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for rows in order[: self.count // size * size].split(size):
            yield images[rows], labels[rows]


SCHEDULE = {
    "epochs": 8.0,
    "batch": 16,
    "lr": 3e-3,
    "min_lr": 1e-4,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "smoothing": 0.0,
    "drop_path": 0.1,
    "clip": 1.0,
    "precision": "no",
}


@dataclass
class TinyTask:
    workdir: Path
    fit: Any = field(default_factory=Blobs)
    select_a: Any = field(default_factory=lambda: Blobs(48, 1))
    select_b: Any = field(default_factory=lambda: Blobs(48, 2))
    budgets: tuple[float, ...] = (0.05, 0.4, 0.7, 1.0)
    schedule: Mapping[str, Any] = field(default_factory=lambda: dict(SCHEDULE))
    seed: int = 0
    given: Mapping[str, Mapping[float, str]] = field(default_factory=dict)
    ledger: Spent = field(default_factory=Spent)
    train_macs: float | None = None  # regime equal MACs
    targets: tuple[Target, ...] = ()  # in the place of budgets
    stop_at: tuple[str, int] | None = None  # raise KeyboardInterrupt when this phase reaches this step

    def backbone(self) -> nn.Module:
        return plain()

    def progress(self, phase: str, done: int, total: int) -> None:
        if self.stop_at is not None and phase == self.stop_at[0] and done >= self.stop_at[1]:
            raise KeyboardInterrupt
