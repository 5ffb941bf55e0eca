"""Backbones that are timed, and submodels of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import timm
import torch
from torch import Tensor, nn

from eavit import NestedViT, weights
from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.space.product import ProductSpace
from tests.eavit import small

CLASSES = 10
SHARES = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the full MACs


@dataclass(frozen=True)
class Timed:
    """One backbone with the sizes that it is timed at."""

    make: Callable[[], nn.Module]
    pixels: int
    channels: int
    batches: tuple[int, ...]
    rounds: int

    def vit(self) -> NestedViT:
        """A nested ViT in train mode, the same at every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return NestedViT.from_timm(self.make()).train()

    def data(self, count: int, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(count, self.channels, self.pixels, self.pixels, generator=generator)
        return images, torch.randint(classes, (count,), generator=generator)


def _timm(name: str, pixels: int) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES, img_size=pixels)


BACKBONES = {
    "sketch": Timed(lambda: small.plain(CLASSES), 4, 1, (8,), 3),  # for the smoke test
    "pico": Timed(lambda: weights.pico_letters(CLASSES), 24, 1, (4, 16, 64), 15),
    "tiny": Timed(_timm("vit_tiny_patch16_224", 96), 96, 3, (16,), 7),
    "ViT-S": Timed(_timm("vit_small_patch14_dinov2", 56), 56, 3, (8, 32), 5),
    "ViT-B": Timed(_timm("vit_base_patch16_224", 112), 112, 3, (4,), 3),
}


def submodels(vit: NestedViT) -> dict[str, Submodel]:
    """Random members of EA-ViT's space near each of ``SHARES``, each with a branch that is skipped, by their share."""
    b, rng = vit.backbone, np.random.default_rng(0)
    space, full = ProductSpace.eavit(b), cost.macs(b, b.full)
    found: dict[str, Submodel] = {}
    for share in SHARES:
        drawn = (space.near(share * full, rng) for _ in range(1000))
        member = next(s for s in drawn if 0 in (*s.heads, *s.mlp))
        found[f"{share:g}: {member}"] = member
    return found
