"""One pass of a step as a value: which submodel, which losses, whom it learns from; what cannot be; what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, NamedTuple

from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.training.distributed import Share

TEACHER: Literal["teacher"] = "teacher"


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward of a submodel: ``hard`` · cross-entropy + ``soft`` · distillation + ``features`` ·
    distance of hidden states.
    """

    submodel: Submodel
    hard: float = 1.0
    soft: float = 0.0
    source: int | Literal["teacher"] | None = None  # whom it learns from: an earlier pass of the step, or the teacher
    features: float = 0.0  # needs the full embedding on both sides
    temperature: float = 1.0
    smoothed: bool = True  # label smoothing and stochastic depth apply
    part: tuple[int, int] | None = None  # only the i-th of g micro-batches of the step's batch
    tail: bool = False  # the last channels, heads and neurons instead of the first

    @property
    def learns(self) -> bool:
        return self.hard > 0 or self.soft > 0 or self.features > 0

    def __str__(self) -> str:
        part = "" if self.part is None else " part {} of {}".format(*self.part)
        return f"{self.submodel}{' tail' if self.tail else ''}{part}"


Passes = tuple[Pass, ...]


def check(passes: Passes, backbone: Backbone, batch: int, teacher: Backbone | None = None) -> Passes:
    """The passes themselves, or a ValueError that names the pass and what cannot be about it."""
    for place, p in enumerate(passes):
        fault = _fault_of_one(p, batch) or _fault_of_source(place, passes, backbone, teacher)
        if fault:
            raise ValueError(f"step plan: pass {place} ({p}): {fault}")
    if not any(p.learns for p in passes):
        raise ValueError(f"step plan: no loss at all in its {len(passes)} passes; give one a weight above 0")
    sources = {p.source for p in passes}
    for place, p in enumerate(passes):
        if not p.learns and place not in sources:
            raise ValueError(f"step plan: pass {place} ({p}): it has no loss and no other pass learns from it")
    return passes


def _fault_of_one(p: Pass, batch: int) -> str | None:
    for name in ("hard", "soft", "features"):
        weight: float = getattr(p, name)
        if not (isfinite(weight) and weight >= 0):
            return f"{name}={weight}, must be a number from 0 up"
    if not p.temperature > 0:
        return f"temperature={p.temperature}, must be above 0"
    if p.part is not None and not 0 <= p.part[0] < p.part[1] <= batch:
        return f"part={p.part}: needs 0 <= i < g <= {batch}, the images of a step"
    return None


def _fault_of_source(place: int, passes: Passes, backbone: Backbone, teacher: Backbone | None) -> str | None:
    p = passes[place]
    learns = p.soft > 0 or p.features > 0
    if p.source is None:
        return "soft or features need a source" if learns else None
    if not learns:
        return f"source={p.source!r}, but soft and features are both 0"
    if p.source == TEACHER:
        if teacher is None:
            return "source='teacher', but the fit has no teacher"
        if teacher.num_classes != backbone.num_classes:
            return f"the teacher has {teacher.num_classes} classes, the model {backbone.num_classes}"
        return _fault_of_features(p, backbone, None, (teacher.embed, teacher.depth))
    if not (isinstance(p.source, int) and 0 <= p.source < place):
        return f"source={p.source!r} is neither an earlier pass of the step (0 to {place - 1}) nor 'teacher'"
    source = passes[p.source]
    if source.part not in (None, p.part):
        return f"its source, pass {p.source}, saw other images (part={source.part})"
    return _fault_of_features(p, backbone, source, (source.submodel.embed, backbone.depth))


def _fault_of_features(p: Pass, backbone: Backbone, source: Pass | None, shape: tuple[int, int]) -> str | None:
    if not p.features:
        return None
    if p.submodel.embed != backbone.embed or shape != (backbone.embed, backbone.depth):
        return f"features need the full embedding ({backbone.embed}) and depth ({backbone.depth}) on both sides"
    if p.tail or (source is not None and source.tail):
        return "features of a tail have their channels in another order"
    return None


class Spent(NamedTuple):
    """Multiply-accumulates."""

    forward: float
    backward: float

    @property
    def macs(self) -> float:
        return self.forward + self.backward


def cost_of_pass(p: Pass, backbone: Backbone) -> Spent:
    """For one image; the backward of whatever has a loss costs two forwards."""
    forward = cost.macs(backbone, p.submodel)
    return Spent(forward, 2 * forward if p.learns else 0)


def cost_of(passes: Passes, backbone: Backbone, batch: int, teacher: Backbone | None = None) -> Spent:
    """For one step on a batch of so many images; a teacher (without one given: the full backbone) runs once."""
    everyone = Share(0, batch, batch)
    spent = [(cost_of_pass(p, backbone), everyone.part(p.part)[1]) for p in passes]
    guide = teacher or backbone
    once = batch * cost.macs(guide, guide.full) if any(p.source == TEACHER for p in passes) else 0
    return Spent(once + sum(one.forward * n for one, n in spent), sum(one.backward * n for one, n in spent))
