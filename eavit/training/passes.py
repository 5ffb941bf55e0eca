"""Passes of a training step: submodel, losses and source of each; checks, cost, and how they are run.

A plan maps (progress in [0, 1], generator) to the passes of one step, in order. Each pass is propagated at once, so
memory is that of one pass; of earlier ones only detached logits (and hidden states where a later pass learns from them)
are kept. The cost of a plan is exact and known without training: draws are named by (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from eavit.model import cost
from eavit.model.importance import permuted, reversed_units, tensors_of
from eavit.model.objective import distillation_loss, label_loss
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT
from eavit.training.distributed import Share
from eavit.training.samplers import Sampler
from eavit.training.task import Spent

TEACHER: Literal["teacher"] = "teacher"


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward of a submodel: ``hard`` · loss of the labels + ``soft`` · distillation + ``features`` ·
    distance of hidden states.
    """

    submodel: Submodel
    hard: float = 1.0
    soft: float = 0.0
    source: int | Literal["teacher"] | None = None  # of distillation: an earlier pass of the step, or the teacher
    features: float = 0.0  # needs the full embedding on both sides
    temperature: float = 1.0
    smoothed: bool = True  # label smoothing and stochastic depth apply
    part: tuple[int, int] | None = None  # only the i-th of g micro-batches of the step's batch
    tail: bool = False  # the last channels, heads and neurons instead of the first

    @property
    def learns(self) -> bool:
        """Return whether the pass has a loss."""
        return self.hard > 0 or self.soft > 0 or self.features > 0

    def __str__(self) -> str:
        part = "" if self.part is None else " part {} of {}".format(*self.part)
        return f"{self.submodel}{' tail' if self.tail else ''}{part}"


Passes = tuple[Pass, ...]
Plan = Callable[[float, np.random.Generator], Passes]


def always(*submodels: Submodel) -> Plan:
    """Plan of the same submodels at every step, each by its cross-entropy."""
    passes = tuple(map(Pass, submodels))
    return lambda progress, rng: passes


def plain(sampler: Sampler) -> Plan:
    """Cross-entropy of every submodel that the sampler names at a step."""
    return lambda progress, rng: tuple(map(Pass, sampler(progress, rng)))


def as_plan(what: Plan | Sampler) -> Plan:
    """A plan as it is; a sampler (it has a space) as :func:`plain`."""
    return plain(what) if hasattr(what, "space") else what  # type: ignore[arg-type]


# --- what is refused -------------------------------------------------------------------------------------------------


def checked_passes(passes: Passes, backbone: Backbone, batch: int, teacher: Backbone | None = None) -> Passes:
    """The passes themselves; ValueError names the pass and what is wrong with it."""
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


# --- cost ------------------------------------------------------------------------------------------------------------


def cost_of_pass(p: Pass, backbone: Backbone) -> tuple[int, int]:
    """MACs forward and backward for one image; the backward of a pass with a loss costs two forwards."""
    forward = cost.macs(backbone, p.submodel)
    return forward, 2 * forward if p.learns else 0


def cost_of(passes: Passes, backbone: Backbone, batch: int, teacher: Backbone | None = None) -> Spent:
    """Compute of one step on ``batch`` images; a teacher (None: of the same backbone) runs once."""
    everyone, guide = Share(0, batch, batch), teacher or backbone
    spent = Spent(images=batch, steps=1)
    if any(p.source == TEACHER for p in passes):
        spent.forward_macs += batch * cost.macs(guide, guide.full)
    for p in passes:
        (forward, backward), images = cost_of_pass(p, backbone), everyone.part(p.part)[1]
        spent.add(forward_macs=forward * images, backward_macs=backward * images)
    return spent


def cost_of_steps(
    plan: Plan, backbone: Backbone, batch: int, seed: int, steps: int, teacher: Backbone | None = None
) -> float:
    """MACs of a whole fit of ``steps`` steps: its draws are replayed, nothing is trained."""
    drawn = (plan(index / steps, draws_of(seed, index)) for index in range(steps))
    return sum(cost_of(passes, backbone, batch, teacher).macs for passes in drawn)


# --- running a step --------------------------------------------------------------------------------------------------


def draws_of(seed: int, index: int) -> np.random.Generator:
    """The generator of a step's draws."""
    return np.random.default_rng([seed, index])


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step of a fit: its place, and the rows of the batch that this process works on."""

    index: int
    total: int
    seed: int
    share: Share

    @property
    def progress(self) -> float:
        """Fraction of training done before this step."""
        return self.index / self.total

    @property
    def rng(self) -> np.random.Generator:
        """A new generator of the draws of this step."""
        return draws_of(self.seed, self.index)


class Term(NamedTuple):
    """One loss of a step with what it costs for one image; the loss is a mean over this process's rows of ``part``.

    ``None``: no loss of its own, or no row here. ``drawn`` says what was drawn; it must be equal on all processes.
    """

    loss: Tensor | None
    forward_macs: float
    backward_macs: float
    part: tuple[int, int] | None = None
    drawn: str = ""


Terms = Callable[[Any, Tensor, Tensor, Step], Iterator[Term]]


class _Outputs(NamedTuple):
    """Detached outputs of a pass that others learn from: logits, and hidden states where one of them needs these."""

    logits: Tensor
    states: tuple[Tensor, ...]

    def of(self, rows: slice) -> _Outputs:
        return _Outputs(self.logits[rows], tuple(state[rows] for state in self.states))


def terms_of(vit: NestedViT, plan: Plan, smoothing: float, teacher: NestedViT | None = None) -> Terms:
    """The passes of a plan as a trainer's terms; a teacher (frozen, in eval mode) runs at most once a step."""
    backbone, guide = vit.backbone, None if teacher is None else teacher.backbone

    def taught(images: Tensor, *, states: bool) -> _Outputs:
        if teacher is None:
            raise ValueError("step plan: source='teacher', but the fit has no teacher")
        with torch.no_grad():
            return _Outputs(*teacher.hidden(images)) if states else _Outputs(teacher(images), ())

    def terms(model: Any, images: Tensor, labels: Tensor, step: Step) -> Iterator[Term]:
        passes = checked_passes(plan(step.progress, step.rng), backbone, step.share.whole, guide)
        watched = {p.source for p in passes if p.features}
        outputs: dict[int | str | None, _Outputs] = {}
        if guide is not None and any(p.source == TEACHER for p in passes):
            outputs[TEACHER] = taught(images, states=TEACHER in watched)
            yield Term(None, cost.macs(guide, guide.full), 0)
        for place, p in enumerate(passes):
            rows, _ = step.share.part(p.part)
            spent = cost_of_pass(p, backbone)
            if rows.start == rows.stop:
                yield Term(None, *spent, p.part, str(p))
                continue
            mine = _forward(vit, p, images[rows], states=p.features > 0 or place in watched)
            if any(p.source == place for p in passes):
                outputs[place] = _Outputs(mine.logits.detach(), tuple(s.detach() for s in mine.states))
            source = _source_of(p, passes, outputs, rows)
            yield Term(_loss(p, mine, labels[rows], source, smoothing) if p.learns else None, *spent, p.part, str(p))

    return terms


def _source_of(p: Pass, passes: Passes, outputs: dict[int | str | None, _Outputs], rows: slice) -> _Outputs | None:
    """Outputs that ``p`` learns from, on the images that it sees."""
    if p.source is None:
        return None
    same = isinstance(p.source, int) and passes[p.source].part == p.part
    return outputs[p.source] if same else outputs[p.source].of(rows)


def flipped(vit: NestedViT) -> dict[str, Tensor]:
    """The parameters with all channels, heads and neurons in reverse order, differentiable: the same function at full
    width, and prefixes that are the tails of ``vit``'s.
    """
    return permuted(tensors_of(vit), vit.backbone, *reversed_units(vit))


def _forward(vit: NestedViT, p: Pass, images: Tensor, *, states: bool) -> _Outputs:
    rates = None if p.smoothed else ()
    if states:
        return _Outputs(*vit.hidden(images, p.submodel, rates))
    if p.tail:
        return _Outputs(_tail_logits(vit, images, p.submodel, rates), ())
    return _Outputs(vit(images, p.submodel, rates), ())


def _tail_logits(vit: NestedViT, images: Tensor, submodel: Submodel, rates: tuple[float, ...] | None) -> Tensor:
    """Logits of the tail. No block is checkpointed: run again in the backward pass, it would find the weights as they
    are, not flipped.
    """
    before = vit.grad_checkpointing
    vit.set_grad_checkpointing(False)
    try:
        logits: Tensor = functional_call(vit, flipped(vit), (images, submodel, rates))
    finally:
        vit.set_grad_checkpointing(before)
    return logits


def _loss(p: Pass, mine: _Outputs, labels: Tensor, source: _Outputs | None, smoothing: float) -> Tensor:
    parts: list[Tensor] = []
    if p.hard:
        parts.append(p.hard * label_loss(mine.logits, labels, smoothing if p.smoothed else 0.0))
    if p.soft and source is not None:
        parts.append(p.soft * distillation_loss(mine.logits, source.logits, labels, p.temperature))
    if p.features and source is not None:
        kept = [0, *(i for i, on in enumerate(zip(p.submodel.heads, p.submodel.mlp, strict=True), 1) if any(on))]
        parts.append(p.features * hidden_distance([mine.states[i] for i in kept], [source.states[i] for i in kept]))
    return torch.stack(parts).sum()


def hidden_distance(states: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean over pairs of hidden states (b, tokens, channels) of their squared distance, itself a mean over elements; no
    gradient reaches the teacher (DynaBERT, 2020).
    """
    gaps = [F.mse_loss(mine, theirs.detach()) for mine, theirs in zip(states, teacher, strict=True)]
    return torch.stack(gaps).mean()
