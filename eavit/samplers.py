"""Which submodels to train at a step: a sampler maps (progress in [0, 1], generator) to the submodels of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Protocol

import numpy as np

from eavit import cost
from eavit.space import Space
from eavit.submodel import Submodel

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
    layers = space.depth
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

    ``floor`` is a share of full MACs below which no submodel is wanted: steps spent there are lost to the others.
    """
    b = space.backbone
    low, high = (cost.macs(b, s) for s in (space.smallest, space.largest))
    low = min(high, max(low, int(floor * cost.macs(b, b.full))))
    if low == high:
        return space.largest
    return space.near(exp(rng.uniform(log(low), log(high))), space.noise(rng))


TYINGS: dict[str, Draw] = {"shared": shared, "per_layer": per_layer, "stratified": stratified}


@dataclass(frozen=True, slots=True)
class Random:
    """``count`` random submodels a step from the whole space, from the first step on."""

    space: Space
    draw: Draw = stratified
    count: int = 1

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        return tuple(self.draw(self.space, rng) for _ in range(self.count))


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Full model first, then a space that grows at fractions of training (paper: epochs 10, 15, ..., 35 of 100)."""

    space: Space
    draw: Draw = stratified
    starts: tuple[float, ...] = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35)

    def stage(self, progress: float) -> int:
        return sum(progress >= start for start in self.starts)

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        stage = self.stage(progress)
        allowed = self.space.restrict(stage, len(self.starts)) if self.starts else self.space
        return (allowed.largest if stage == 0 and self.starts else self.draw(allowed, rng),)


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


@dataclass(frozen=True, slots=True)
class Stages:
    """One sampler after another; ``starts`` are fractions of training, the first one 0 (progressive shrinking)."""

    samplers: tuple[Sampler, ...]
    starts: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.samplers) != len(self.starts) or not self.starts or self.starts[0] != 0:
            raise ValueError(
                f"stages: {len(self.samplers)} samplers need as many ascending starts from 0, got {self.starts}"
            )

    @property
    def space(self) -> Space:
        return self.samplers[-1].space

    def __call__(self, progress: float, rng: np.random.Generator) -> Submodels:
        current = sum(progress >= start for start in self.starts) - 1
        return self.samplers[current](progress, rng)


def chain(space: Space, mlps: Sequence[int]) -> Submodels:
    """Uniform submodels of ``space.largest``'s depth, heads and embedding, one for each hidden width."""
    full = space.largest
    return tuple(space.require(Submodel(full.embed, full.heads, (width,) * full.depth)) for width in sorted(mlps))
