"""Models trained alone, each with the whole schedule or, with equal MACs, with an equal part of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from eavit.methods.answers import Retrained
from eavit.methods.fitting import train
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT, extract
from eavit.training.allocation import Allocation, Phase, plan_cost
from eavit.training.passes import always
from eavit.training.task import Task

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Sized:
    """A choice with widths that need not be nested in the backbone: a name, then the model's own widths."""

    name: str
    widths: Submodel

    def __str__(self) -> str:
        return f"{self.name}-{self.widths}"


def phases_alone(task: Task, models: Sequence[tuple[Backbone, Submodel]]) -> list[Phase]:
    """A phase for each model, with a cycle of the learning rate of its own."""
    return [
        Phase(f"train-{i}-of-{len(models)}", plan_cost(task, backbone, always(size)), cycle=(0.0, 1.0), weight=1.0)
        for i, (backbone, size) in enumerate(models, 1)
    ]


def train_alone(allocation: Allocation, models: Iterable[tuple[Key, NestedViT, Submodel]]) -> dict[Key, nn.Module]:
    """Each submodel trained in place in its own weights; plain timm modules, in eval mode."""
    modules: dict[Key, nn.Module] = {}
    for phase, (key, vit, size) in zip(allocation.phases, models, strict=True):
        train(vit, always(size), allocation.fit(phase.name))
        modules[key] = extract(vit, size).eval()
    return modules


def distinct_shapes(shapes: Mapping[float, Submodel | None]) -> list[Submodel]:
    """The shapes to train, each once."""
    return list(dict.fromkeys(shape for shape in shapes.values() if shape is not None))


def retrain(allocation: Allocation, vit: NestedViT, shapes: Mapping[float, Submodel | None]) -> Retrained[Submodel]:
    """Each shape sliced from the prepared weights and trained alone."""
    return Retrained(shapes, train_alone(allocation, ((s, deepcopy(vit), s) for s in distinct_shapes(shapes))))
