"""Defects of EA-ViT's published code, each to be switched on alone in ``ea_vit``, so that its cost can be measured.

Facts from zcxcf/EA-ViT (commit 35c03fc): train_stage1.py, train_stage2.py, search_submodel.py, models/model_stage2.py.
What no method may do here (test images in the search, choices over budget) has no switch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, cast
from zlib import crc32

import torch
from torch import Tensor, nn

from eavit.methods.recipe import Seen
from eavit.model.gates import Masking
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed
from eavit.training.spending import batch_of
from eavit.training.task import Split, Task

NORMS = ("kept", "all")
FITNESS = ("select", "train_batch")
WARMUPS = ("noisy", "silent")
SEARCHED = ("trained", "per_layer")


class Altered:
    """A task with some of its parts replaced."""

    def __init__(self, task: Task, **parts: Any) -> None:
        self._task = task
        self.__dict__.update(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


@dataclass(frozen=True, slots=True)
class FirstBatches:
    """The first ``count`` batches of each epoch of another split."""

    split: Split
    count: int
    size: int

    @property
    def labels(self) -> Tensor:
        return self.split.labels

    def __len__(self) -> int:
        return self.count * self.size

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return islice(self.split.batches(size, seed=seed, epoch=epoch), self.count)


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """One batch of a training split as training would see it: shuffled and augmented, by its own name."""

    split: Split
    size: int
    seed: int
    name: int

    @property
    def labels(self) -> Tensor:
        return next(self.batches(self.size))[1]

    def __len__(self) -> int:
        return self.size

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return islice(self.split.batches(self.size, seed=self.seed, epoch=self.name), 1)


@dataclass(frozen=True, slots=True)
class Defects:
    """Which defects are on; by default none is. Quotas and population are options of the search itself."""

    norm_over: str = "kept"  # "all": LayerNorm over all channels in stage 2, while what is deployed is sliced
    skipped_bias: bool = False  # an MLP without an open gate still adds its bias in stage 2
    norm_eps: float | None = None  # published 1e-5, pretrained 1e-6; None: the backbone's own
    fresh_norms: bool = False  # LayerNorms and head begin anew: names that strict=False would pass over
    fitness: str = "select"  # "train_batch": of each submodel another augmented batch of the training images
    targets: Sequence[float] | None = None  # published 0.2 to 1.1; None: what references reach
    warmup: str = "noisy"  # "silent": the router's warm-up without noise and without a gradient from the loss
    searched: str = "trained"  # "per_layer": what is searched and routed, while stage 1 ties all layers
    epoch_batches: int | None = None  # published 1: each epoch ends after so many batches; None: whole epochs

    def __post_init__(self) -> None:
        for name, known in (
            ("norm_over", NORMS),
            ("fitness", FITNESS),
            ("warmup", WARMUPS),
            ("searched", SEARCHED),
        ):
            allowed(name, getattr(self, name), known)
        if self.norm_eps is not None and not self.norm_eps > 0:
            raise ValueError(f"option norm_eps={self.norm_eps}: must be above 0")
        if self.targets is not None and len(self.targets) != 2:
            raise ValueError(
                f"option targets={list(self.targets)}: must be two shares of the full MACs, least and largest"
            )
        if self.targets is not None and not 0 < self.targets[0] < self.targets[1]:
            raise ValueError(f"option targets={list(self.targets)}: must be two ascending shares above 0")
        if self.epoch_batches is not None and self.epoch_batches < 1:
            raise ValueError(f"option epoch_batches={self.epoch_batches}: must be at least 1")

    @property
    def span(self) -> tuple[float, float] | None:
        """Of the targets."""
        return None if self.targets is None else (self.targets[0], self.targets[1])

    def tying(self, own: str) -> str:
        """How stage 1 ties the layers."""
        return "shared" if self.searched == "per_layer" else own

    @property
    def masking(self) -> Masking:
        over: Literal["kept", "all"] = "all" if self.norm_over == "all" else "kept"
        return Masking(over, self.skipped_bias)

    def before(self, task: Task) -> Task:
        """The task as the method's start sees it."""
        if self.norm_eps is None:
            return task
        plain, eps = task.backbone, self.norm_eps

        def backbone() -> nn.Module:
            model = plain()
            for module in model.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = eps
            return model

        return cast(Task, Altered(task, backbone=backbone))

    def started(self, vit: NestedViT) -> NestedViT:
        """The model as training finds it."""
        return renewed(vit) if self.fresh_norms else vit

    def training(self, task: Task) -> Task:
        """The task as training sees it."""
        if self.epoch_batches is None:
            return task
        size = batch_of(task)
        count = min(self.epoch_batches, max(1, len(task.fit) // size))
        return cast(Task, Altered(task, fit=FirstBatches(task.fit, count, size)))

    def seen(self, task: Task) -> Seen | None:
        """The images that a submodel's fitness looks at, if not those of the select split.

        Published: whatever batch comes next. Here it is named by the submodel, so that a search can be resumed.
        """
        if self.fitness == "select":
            return None
        fit, size, seed = task.fit, batch_of(task), task.seed

        def batch(submodel: Submodel) -> Split:
            return TrainBatch(fit, size, seed, crc32(str(submodel).encode()))

        return batch


@torch.no_grad()
def renewed(vit: NestedViT) -> NestedViT:
    """LayerNorms at scale 1 and shift 0, the head at 0, in place.

    Published: the scale too is 0 and, as no gradient gets past a head of 0, would stay so; a checkpoint hides that.
    """
    for module in vit.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.fill_(0.0)
    for parameter in vit.head.parameters():
        parameter.fill_(0.0)
    return vit
