"""EA-ViT as its code was published: the phases of :mod:`eavit.methods.ea_vit`, altered by the defects of that code.
Each can be had alone, so that its cost can be measured.

Facts from zcxcf/EA-ViT (commit 35c03fc): train_stage1.py, train_stage2.py, search_submodel.py, models/model_stage2.py.
What no method may do here (test images in the search, choices over budget) is not brought back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from eavit.methods.choosing import SelectOptions
from eavit.methods.ea_vit import CARD as EA_VIT
from eavit.methods.ea_vit import KNOWN, EaVit, method_of
from eavit.methods.fitness import Images
from eavit.methods.recipe import Recipe
from eavit.methods.stage2 import WarmUp
from eavit.model.vit import NestedViT
from eavit.options import allowed, keyed, number, switch, whole
from eavit.selection.front import Candidate
from eavit.selection.router import RoutedViT, Router, Routing, fit_router, shaping_of
from eavit.selection.selectors import EVALUATIONS
from eavit.training.allocation import batch_of
from eavit.training.passes import Step, Term, Terms
from eavit.training.task import Split, Task
from eavit.training.train import Fit

# --- splits that the published code trains and searches on -----------------------------------------------------------


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


def train_batches(task: Task) -> Images:
    """Images of a fitness. Published: whatever batch comes next. Here it is named by the submodel, so that a search can
    be resumed.
    """
    fit, size, seed = task.fit, batch_of(task), task.seed
    return lambda submodel: TrainBatch(fit, size, seed, crc32(str(submodel).encode()))


# --- defects: each alters the method ---------------------------------------------------------------------------------


def norm_over(method: EaVit, value: str) -> EaVit:
    """LayerNorm over all channels in stage 2, while what is deployed is sliced."""
    allowed("defects.norm_over", value, ("all",))
    return replace(method, routing=replace(method.routing, masking=replace(method.routing.masking, norm_over="all")))


def skipped_bias(method: EaVit, value: bool) -> EaVit:
    """An MLP without an open gate still adds its bias in stage 2."""
    masking = replace(method.routing.masking, skipped_bias=switch("defects.skipped_bias", value))
    return replace(method, routing=replace(method.routing, masking=masking))


def norm_eps(method: EaVit, value: float) -> EaVit:
    """Epsilon of all LayerNorms (published 1e-5) in the place of that of pretraining (1e-6)."""
    eps, pretrained = number("defects.norm_eps", value, "(0, inf)"), method.start

    def start(task: Task) -> NestedViT:
        vit = pretrained(task)
        for module in vit.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = eps
        return vit

    return replace(method, start=start)


def fresh_norms(method: EaVit, value: bool) -> EaVit:
    """LayerNorms and head start anew: names that strict=False passes over."""
    prepared = method.prepare
    if not switch("defects.fresh_norms", value):
        return method
    return replace(method, prepare=lambda task, vit, importance: renewed(prepared(task, vit, importance)))


def fitness(method: EaVit, value: str) -> EaVit:
    """Accuracy of each submodel on another augmented batch of the training images, without a second fold."""
    allowed("defects.fitness", value, ("train_batch",))
    return replace(method, search=replace(method.search, images=train_batches))


def quotas(method: EaVit, value: str) -> EaVit:
    """Quotas of the search for a population of 100, whatever the population (published: 5)."""
    allowed("defects.quotas", value, ("paper",))
    return replace(method, search=replace(method.search, quotas="paper"))


def targets(method: EaVit, value: Sequence[float]) -> EaVit:
    """Targets of the router that cannot be reached (published 0.2 to 1.1)."""
    if len(value) != 2 or not 0 < value[0] < value[1]:
        raise ValueError(f"option defects.targets={list(value)}: must be two ascending shares of the full MACs above 0")
    return replace(method, routing=replace(method.routing, targets=(value[0], value[1])))


def warmup(method: EaVit, value: str) -> EaVit:
    """The router's warm-up without noise and without a gradient from the loss."""
    allowed("defects.warmup", value, ("silent",))
    return replace(method, warm_up=WarmUp(route_silently, free=True))


def searched(method: EaVit, value: str) -> EaVit:
    """Layers are searched and routed apart, while stage 1 ties all of them."""
    allowed("defects.searched", value, ("per_layer",))
    return replace(method, stage1=replace(method.stage1, tying="shared"))


def epoch_batches(method: EaVit, value: int) -> EaVit:
    """Each epoch ends after so many batches (published: 1)."""
    whole("defects.epoch_batches", value, 1)

    def training(task: Task) -> Any:
        size = batch_of(task)
        count = min(value, max(1, len(task.fit) // size))
        split = FirstBatches(task.fit, count, size)
        return replace(task, fit=split)  # type: ignore[type-var]  # every task is a dataclass

    return replace(method, training=training)


DEFECTS: dict[str, Callable[[EaVit, Any], EaVit]] = {
    defect.__name__: defect
    for defect in (
        norm_over, skipped_bias, norm_eps, fresh_norms, fitness, quotas, targets, warmup, searched, epoch_batches
    )
}  # fmt: skip
# As published, but for epochs of one batch, which leave nothing to see.
PUBLISHED: Mapping[str, Any] = {
    "norm_over": "all", "skipped_bias": True, "norm_eps": 1e-5, "fresh_norms": True, "fitness": "train_batch",
    "quotas": "paper", "targets": (0.2, 1.1), "warmup": "silent", "searched": "per_layer",
}  # fmt: skip


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


def route_silently(vit: NestedViT, router: Router, references: Sequence[Candidate], routing: Routing, run: Fit) -> None:
    """Train the router alone on gates without noise, by budget and references alone. The published code runs the images
    too, sliced, to no effect, as no gradient comes back from them. Here they are not run.
    """
    routed = RoutedViT(vit, router, routing.masking)
    fit_router(routed, _silent_terms(routed, references, routing), routing, run)


def _silent_terms(routed: RoutedViT, references: Sequence[Candidate], routing: Routing) -> Terms:
    low, high = routing.range(references)
    shaping = shaping_of(routed, references, routing, 0.0)

    def terms(model: RoutedViT, images: Tensor, labels: Tensor, step: Step) -> Iterator[Term]:
        target = float(step.rng.uniform(low, high))
        gates = model.router.gates(target, model.router.straight)
        yield Term(torch.stack(shaping(gates, target, step.progress)).sum(), 0, 0, drawn=f"{target}")

    return terms


CARD = replace(
    EA_VIT,
    title="EA-ViT as published",
    deviations=(
        *EA_VIT.deviations[:-1],
        "no test images in the search and no choice over its budget: these defects are not brought back",
    ),
)


def ea_vit_published(
    defects: Mapping[str, Any] = PUBLISHED,
    importance: str = "taylor",
    stage1: Mapping[str, Any] = {},
    stage2: Mapping[str, Any] = {},
    search: Mapping[str, Any] = {},
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
    **others: Any,
) -> Recipe:
    """EA-ViT with defects of its published code, by default all but epochs of one batch.

    ``defects`` is a table of those to have, each with its value (:data:`PUBLISHED`); the other options are those of
    :func:`~eavit.methods.ea_vit.ea_vit`.
    """
    options = SelectOptions(select, nesting, evaluations)
    method = method_of(importance, stage1, stage2, search, options, others, ("defects", *KNOWN))
    for name, value in keyed("defects", defects, DEFECTS).items():
        method = DEFECTS[name](method, value)
    chosen = {f"defects.{name}": value for name, value in defects.items()}
    return method.recipe("ea_vit_published", CARD.with_values(method.values | chosen))
