"""Samplers of submodels: each maps (progress in [0, 1], generator) to the submodels of one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Protocol, runtime_checkable

import numpy as np

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.space.product import ProductSpace
from eavit.space.space import Space

Submodels = tuple[Submodel, ...]


class Sampler(Protocol):
    """Losses of all submodels of one step are summed; every one lies in ``space``."""

    @property
    def space(self) -> Space: ...

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels: ...


class Draw(Protocol):
    """One submodel of a space: the tying of its layers."""

    def __call__(self, space: Space, rng: np.random.Generator) -> Submodel: ...


def per_layer(space: Space, rng: np.random.Generator) -> Submodel:
    """Every layer on its own, uniform over configurations: covers only the middle of the MACs axis."""
    return space.sample(rng)


def shared(space: Space, rng: np.random.Generator) -> Submodel:
    """One head count and one hidden width for all layers; with probability 1/depth each kind loses a random branch, as
    far as the space allows (the published code's tying).
    """
    layers = space.backbone.depth
    heads = [space.heads[rng.integers(len(space.heads))]] * layers
    mlp = [space.mlps[rng.integers(len(space.mlps))]] * layers
    embed = space.embeds[rng.integers(len(space.embeds))]
    for widths, least in ((heads, space.min_attn), (mlp, space.min_mlp)):
        dropped = rng.random() < 1 / layers, rng.integers(layers)
        if dropped[0] and layers > least:
            widths[dropped[1]] = 0
    return Submodel(embed, tuple(heads), tuple(mlp))


def stratified(space: Space, rng: np.random.Generator, floor: float = 0.0) -> Submodel:
    """Uniform in log MACs between the space's extremes, with layers that differ (ours: what the router needs).

    ``floor`` is a share of full MACs below which no submodel is drawn: steps spent there are lost to the others.
    """
    b = space.backbone
    low, high = (cost.macs(b, s) for s in (space.smallest, space.largest))
    low = min(high, max(low, int(floor * cost.macs(b, b.full))))
    if low == high:
        return space.largest
    return space.near(exp(rng.uniform(log(low), log(high))), rng)


TYINGS: dict[str, Draw] = {"shared": shared, "per_layer": per_layer, "stratified": stratified}


@dataclass(frozen=True, slots=True)
class Random:
    """``count`` random submodels a step from the whole space, from the first step on."""

    space: Space
    draw: Draw = stratified
    count: int = 1

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        return tuple(self.draw(self.space, rng) for _ in range(self.count))


class Order(Protocol):
    """One submodel of stage ``stage`` (0 to ``stages``, the last one everything): what a curriculum means."""

    def __call__(
        self, space: ProductSpace, stage: int, stages: int, draw: Draw, rng: np.random.Generator
    ) -> Submodel: ...


def largest_first(space: ProductSpace, stage: int, stages: int, draw: Draw, rng: np.random.Generator) -> Submodel:
    """The full model alone, then spaces that grow downwards (the paper's order, by :meth:`ProductSpace.restrict`)."""
    return space.largest if stage == 0 else draw(space.restrict(stage, stages), rng)


def smallest_first(space: ProductSpace, stage: int, stages: int, draw: Draw, rng: np.random.Generator) -> Submodel:
    """The reverse: the smallest member alone, then larger widths and more branches (random ones leave beyond them)."""
    if stage == 0:
        return space.smallest
    drawn = draw(space.restrict_from_below(stage, stages), rng)
    rows = ((drawn.heads, space.min_attn), (drawn.mlp, space.min_mlp))
    return Submodel(drawn.embed, *(_thinned(row, least, space, stage, stages, rng) for row, least in rows))


def _thinned(
    row: tuple[int, ...], least: int, space: ProductSpace, stage: int, stages: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """Random branches off until the stage's number of them is left."""
    most = least + stage * (space.depth - least) // stages
    on = rng.permutation([layer for layer, width in enumerate(row) if width])
    off = set(on[most:].tolist())
    return tuple(0 if layer in off else width for layer, width in enumerate(row))


def newest_only(space: ProductSpace, stage: int, stages: int, draw: Draw, rng: np.random.Generator) -> Submodel:
    """Each stage trains only what it adds to the stage before; one that adds nothing goes on with the last one's."""
    current = space.restrict(stage, stages)
    older = (space.restrict(s, stages) for s in range(stage - 1, -1, -1))
    before = next((s for s in older if s != current), None)
    drawn = space.largest if before is None else draw(current, rng)
    for _ in range(SHELL_TRIES):
        if before is None or not before.contains(drawn):
            break
        drawn = draw(current, rng)
    return drawn


def published(space: ProductSpace, stage: int, stages: int, draw: Draw, rng: np.random.Generator) -> Submodel:
    """The stages of the published code (train_stage1.py of zcxcf/EA-ViT), shared by all layers; ``draw`` is not used.

    Three independent indices in 0..stage, of hidden ratios 4 4 3 3 2 1 .5, heads 12..6 and widths 64 x 12..6. It
    differs from ``ProductSpace.restrict`` in this: the ratios 4 and 3 are twice as likely as the others and 2 comes a
    stage later; one random block, both branches, is dropped with probability 1/12 from the very first step on, so that
    stage 0 is not the full model alone; no other depth is ever trained. (There hidden = ratio x drawn width; ours is
    absolute.)
    """

    def pick(options: tuple[int, ...], places: tuple[int, ...]) -> int:
        index = int(rng.integers(stage + 1)) * (len(places) - 1) // stages
        return options[-1 - places[index] * (len(options) - 1) // places[-1]]

    mlp, heads = pick(space.mlps, (0, 0, 1, 1, 2, 3, 4)), pick(space.heads, tuple(range(7)))
    embed = pick(space.embeds, tuple(range(7)))
    dropped = int(rng.integers(space.depth)) if rng.random() < 1 / 12 and _spare_block(space) else None
    rows = (tuple(0 if layer == dropped else width for layer in range(space.depth)) for width in (heads, mlp))
    return Submodel(embed, *rows)


def _spare_block(space: ProductSpace) -> bool:
    return max(space.min_attn, space.min_mlp) < space.depth


SHELL_TRIES = 64
STARTS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35)  # the paper: epochs 10, 15, ..., 35 of 100
ORDERS: dict[str, Order] = {
    "largest_first": largest_first,
    "smallest_first": smallest_first,
    "newest_only": newest_only,
    "published": published,
}


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Stages that begin at fractions of training; ``order`` defines what a stage draws (default: largest first)."""

    space: ProductSpace
    draw: Draw = stratified
    starts: tuple[float, ...] = STARTS
    order: Order = largest_first

    def stage(self, progress: float) -> int:
        """Stages that have begun."""
        return sum(progress >= start for start in self.starts)

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        if not self.starts:
            return (self.draw(self.space, rng),)
        return (self.order(self.space, self.stage(progress), len(self.starts), self.draw, rng),)


@runtime_checkable
class Feedback(Protocol):
    """A sampler that is given the loss of each step. Its memory is ``state``, a few finite numbers to be kept in
    the checkpoint; ``restore(state())`` on a fresh one gives a sampler that goes on as the first would have.
    """

    def observe(self, loss: float) -> None: ...
    def state(self) -> dict[str, float]: ...
    def restore(self, state: Mapping[str, float]) -> None: ...


_FRESH = {"stage": 0.0, "seen": 0.0, "average": 0.0, "best": 0.0, "waited": 0.0}


@dataclass(slots=True)
class Triggered:
    """A curriculum whose stage rises when the loss stalls: its moving average was not below the stage's best by the
    fraction ``gain`` for ``patience`` steps. By ``deadline``, a fraction of training, all stages have come whatever the
    loss does: a family whose small members were never trained is none.
    """

    space: ProductSpace
    draw: Draw = stratified
    order: Order = largest_first
    stages: int = 6
    patience: int = 50
    gain: float = 0.01
    decay: float = 0.9  # of the moving average
    deadline: float = 0.7
    memory: dict[str, float] = field(default_factory=lambda: dict(_FRESH))

    def __post_init__(self) -> None:
        if self.stages < 1 or self.patience < 1 or not (0 <= self.gain < 1 and 0 <= self.decay < 1):
            raise ValueError(
                f"triggered: stages={self.stages} and patience={self.patience} must be at least 1, "
                f"gain={self.gain} and decay={self.decay} in 0..1"
            )
        if not 0 < self.deadline <= 1:
            raise ValueError(f"triggered: deadline={self.deadline} must lie in 0..1, 0 excluded")

    def stage(self, progress: float) -> int:
        """Stages that have come, by the loss or by the deadline."""
        due = int(self.stages * progress / self.deadline)
        return min(self.stages, max(int(self.memory["stage"]), due))

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        stage = self.stage(progress)
        if stage > self.memory["stage"]:
            self._enter(stage)
        return (self.order(self.space, stage, self.stages, self.draw, rng),)

    def _enter(self, stage: float) -> None:
        """New submodels lose more: what counts as a gain starts afresh with them."""
        self.memory |= _FRESH | {"stage": float(stage)}

    def observe(self, loss: float) -> None:
        """Take in the loss of a step."""
        m = self.memory
        m["average"] = self.decay * m["average"] + (1 - self.decay) * loss if m["seen"] else loss
        better = not m["seen"] or m["average"] < (1 - self.gain) * m["best"]
        m["best"], m["waited"] = (m["average"], 0.0) if better else (m["best"], m["waited"] + 1)
        m["seen"] += 1
        if m["waited"] >= self.patience and m["stage"] < self.stages:
            self._enter(m["stage"] + 1)

    def state(self) -> dict[str, float]:
        """The memory, as plain numbers."""
        return dict(self.memory)

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a state; ValueError on other keys."""
        if set(state) != set(_FRESH):
            raise ValueError(f"triggered: state has the keys {sorted(state)}, must have {sorted(_FRESH)}")
        self.memory = dict(state)


@dataclass(frozen=True, slots=True)
class Always:
    """The same submodels at every step: one fixed model, or all granularities of a chain (MatFormer)."""

    space: Space
    submodels: Submodels

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        return self.submodels


@dataclass(frozen=True, slots=True)
class OneOf:
    """One submodel of a list a step, uniform."""

    space: Space
    submodels: Submodels

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        return (self.submodels[int(rng.integers(len(self.submodels)))],)


@dataclass(frozen=True, slots=True)
class Sandwich:
    """Largest, ``middle`` random ones and smallest at every step (US-Net, BigNAS)."""

    space: Space
    middle: int = 2
    draw: Draw = stratified

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        inner = tuple(self.draw(self.space, rng) for _ in range(self.middle))
        return (self.space.largest, *inner, self.space.smallest)


def chain(space: Space, mlps: Sequence[int]) -> Submodels:
    """Uniform submodels of ``space.largest``'s depth, heads and embedding, one for each hidden width."""
    full = space.largest
    return tuple(space.require(Submodel(full.embed, full.heads, (width,) * full.depth)) for width in sorted(mlps))
