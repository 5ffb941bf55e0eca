"""A space that is a list: sizes that nest in each other and nothing between them (HydraViT, Scala, SortedNet)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np

from eavit.methods.onefit import Choosing, choosing
from eavit.selectors import mix_n_match
from eavit.space import Genes, Noise, Space
from eavit.submodel import Backbone, Submodel


@dataclass(frozen=True, slots=True)
class Ladder(Space):
    """``rungs`` ascend, each strictly inside the next. They alone are members; their one gene is the rung."""

    rungs: tuple[Submodel, ...]

    def __post_init__(self) -> None:
        Space.__post_init__(self)
        for small, large in pairwise(self.rungs):
            if small == large or not small <= large:
                raise ValueError(f"ladder: {small} is not strictly inside {large}; each size must nest in the next one")

    @classmethod
    def of(cls, backbone: Backbone, rungs: Sequence[Submodel]) -> Ladder:
        if not rungs:
            raise ValueError("ladder: no size at all; it needs at least one")
        for rung in rungs:
            backbone.check(rung)
        heads = {h for rung in rungs for h in rung.heads if h} or {backbone.heads}
        mlps = {m for rung in rungs for m in rung.mlp if m} or {backbone.mlp}
        embeds = {rung.embed for rung in rungs}
        attn = min(sum(map(bool, rung.heads)) for rung in rungs)
        mlp = min(sum(map(bool, rung.mlp)) for rung in rungs)
        return cls(backbone, tuple(sorted(embeds)), tuple(sorted(heads)), tuple(sorted(mlps)), attn, mlp, tuple(rungs))

    @property
    def largest(self) -> Submodel:
        return self.rungs[-1]

    @property
    def smallest(self) -> Submodel:
        return self.rungs[0]

    @property
    def count(self) -> int:
        return len(self.rungs)

    @property
    def distinct(self) -> int:
        return len(self.rungs)

    def contains(self, submodel: Submodel) -> bool:
        return submodel in self.rungs

    def restrict(self, stage: int, stages: int = 6) -> Ladder:
        return Ladder.of(self.backbone, self.rungs[-self._kept(stage, stages) :])

    def begin(self, stage: int, stages: int = 6) -> Ladder:
        return Ladder.of(self.backbone, self.rungs[: self._kept(stage, stages)])

    def _kept(self, stage: int, stages: int) -> int:
        if stages < 1 or not 0 <= stage <= stages:
            raise ValueError(f"stage {stage} of {stages} is not one of 0..stages with at least 1 stage")
        return 1 + stage * (len(self.rungs) - 1) // stages

    def narrower(self, submodel: Submodel) -> Iterator[Submodel]:
        place = self.rungs.index(submodel)
        yield from self.rungs[max(0, place - 1) : place]

    def wider(self, submodel: Submodel) -> Iterator[Submodel]:
        place = self.rungs.index(submodel)
        yield from self.rungs[place + 1 : place + 2]

    def sample(self, rng: np.random.Generator) -> Submodel:
        return self.rungs[int(rng.integers(len(self.rungs)))]

    @property
    def gene_sizes(self) -> Genes:
        return np.array([len(self.rungs)], dtype=np.int64)

    def genes(self, submodel: Submodel) -> Genes:
        return np.array([self.rungs.index(self.require(submodel))], dtype=np.int64)

    def from_genes(self, genes: Sequence[int] | Genes) -> Submodel:
        code = [int(g) for g in genes]
        if len(code) != 1 or not 0 <= code[0] < len(self.rungs):
            raise ValueError(f"genes {code} do not fit this ladder: one gene below {len(self.rungs)}")
        return self.rungs[code[0]]

    def at(self, level: float, noise: Noise) -> Submodel:
        return self.rungs[min(int(level * len(self.rungs)), len(self.rungs) - 1)]


def rungs_of(space: Space) -> tuple[Submodel, ...]:
    """The members of a ladder: the candidates of the selector of every family that is a list."""
    if not isinstance(space, Ladder):
        raise TypeError(f"the space is a {type(space).__name__}, not a list of sizes")
    return space.rungs


def tied(backbone: Backbone, smallest: float = 0.25) -> Ladder:
    """One number k ties all widths: k heads, k head-widths of channels, the hidden width in the backbone's proportion
    to the channels. k runs from ``smallest`` of the heads, rounded up, to all: 3 to 12 of ViT-B, 2 to 6 of 6 heads.
    """
    b, layers = backbone, backbone.depth

    def size(k: int) -> Submodel:
        return Submodel(max(1, b.embed * k // b.heads), (k,) * layers, (max(1, b.mlp * k // b.heads),) * layers)

    return Ladder.of(b, [size(k) for k in range(max(1, ceil(smallest * b.heads - 1e-9)), b.heads + 1)])


def choosing_rung(select: str, nesting: str, evaluations: int) -> Choosing:
    """Natively the largest rung that fits, which is also all that Mix'n'Match and uniform shapes can mean here."""
    largest_that_fits = mix_n_match(rungs_of)
    lists = {"mix_n_match": largest_that_fits, "uniform": largest_that_fits}
    return choosing(select, nesting, evaluations, largest_that_fits, lists)
