"""A nested ViT for training loops of others: a plain ``forward(images)`` that draws a submodel by itself."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn

from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.options import whole
from eavit.space.product import ProductSpace
from eavit.training.passes import draws_of
from eavit.training.samplers import Curriculum, Sampler


class Sampled(nn.Module):
    """Wraps a nested ViT so that any loop that calls ``model(images)`` trains its submodels.

    In train mode each call runs the next submodel that the sampler draws; in eval mode the full model. ``steps``: calls
    in train mode that the training will make, over which a curriculum grows. By default submodels are drawn as in
    EA-ViT's stage 1. How many calls were made is part of the state dict, so a resumed training goes on drawing.
    """

    calls: Tensor

    def __init__(self, vit: NestedViT, sampler: Sampler | None = None, *, steps: int, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(vit, NestedViT):
            raise TypeError(f"vit is a {type(vit).__name__}; must be a nested ViT: NestedViT.from_timm(model)")
        self.vit, self.steps, self.seed = vit, whole("steps", steps, 1), seed
        self.sampler = sampler if sampler is not None else Curriculum(ProductSpace.eavit(vit.backbone, 0.5))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self._pending: deque[Submodel] = deque()

    def draw(self) -> Submodel:
        """The submodel of the next call in train mode."""
        if not self._pending:
            step = int(self.calls)
            progress = min(1.0, step / self.steps)
            self._pending.extend(self.sampler(progress, draws_of(self.seed, step)))
        self.calls += 1
        return self._pending.popleft()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.vit(images, self.draw()) if self.training else self.vit(images)
        return logits
