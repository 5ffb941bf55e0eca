"""A space that is a list of sizes: those of HydraViT, Scala and SortedNet nest in each other, DynaBERT's need not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np

from eavit.methods.choosing import Choosing, choosing
from eavit.model import cost
from eavit.model.submodel import Backbone, Submodel
from eavit.selection.selectors import mix_n_match
from eavit.space.product import Genes, Noise, Space, check_stage


@dataclass(frozen=True, slots=True)
class Sizes(Space):
    """``members`` by ascending MACs, the first inside all and the last around all. Their one gene is the place."""

    members: tuple[Submodel, ...]

    @classmethod
    def of(cls, backbone: Backbone, sizes: Sequence[Submodel]) -> Sizes:
        if not sizes:
            raise ValueError("a list of sizes has no size at all; it needs at least one")
        for size in sizes:
            backbone.check(size)
        members = tuple(sorted(set(sizes), key=lambda s: (cost.macs(backbone, s), str(s))))
        embeds = tuple(sorted({s.embed for s in members}))
        heads, attn = _summary([s.heads for s in members], backbone.heads)
        mlps, mlp = _summary([s.mlp for s in members], backbone.mlp)
        return cls(backbone, embeds, heads, mlps, attn, mlp, members)

    @classmethod
    def ladder(cls, backbone: Backbone, rungs: Sequence[Submodel]) -> Sizes:
        """Sizes from small to large, each strictly inside the next."""
        for small, large in pairwise(rungs):
            if small == large or not small <= large:
                raise ValueError(f"ladder: {small} is not strictly inside {large}; each size must nest in the next one")
        return cls.of(backbone, rungs)

    @property
    def closed(self) -> bool:
        """Whether what any two members share is a member: choices can then be cut into each other."""
        return all(a.meet(b) in self.members for a in self.members for b in self.members)

    @property
    def largest(self) -> Submodel:
        return self.members[-1]

    @property
    def smallest(self) -> Submodel:
        return self.members[0]

    @property
    def count(self) -> int:
        return len(self.members)

    @property
    def distinct(self) -> int:
        return len(self.members)

    def contains(self, submodel: Submodel) -> bool:
        return submodel in self.members

    def require(self, submodel: Submodel) -> Submodel:
        if submodel not in self.members:
            raise ValueError(f"submodel {submodel} is none of the sizes {', '.join(map(str, self.members))}")
        return submodel

    def restrict(self, stage: int, stages: int = 6) -> Sizes:
        return Sizes.of(self.backbone, self.members[-self._kept(stage, stages) :])

    def begin(self, stage: int, stages: int = 6) -> Sizes:
        return Sizes.of(self.backbone, self.members[: self._kept(stage, stages)])

    def _kept(self, stage: int, stages: int) -> int:
        check_stage(stage, stages)
        return 1 + stage * (len(self.members) - 1) // stages

    def _neighbours(self, submodel: Submodel, step: int) -> Iterator[Submodel]:
        """The members next below or above in the order of nesting."""

        def beyond(a: Submodel, b: Submodel) -> bool:
            return a != b and (b <= a if step > 0 else a <= b)

        far = [s for s in self.members if beyond(s, submodel)]
        yield from (s for s in far if not any(beyond(s, other) for other in far))

    def sample(self, rng: np.random.Generator) -> Submodel:
        return self.members[int(rng.integers(len(self.members)))]

    @property
    def gene_sizes(self) -> Genes:
        return np.array([len(self.members)], dtype=np.int64)

    def genes(self, submodel: Submodel) -> Genes:
        return np.array([self.members.index(self.require(submodel))], dtype=np.int64)

    def from_genes(self, genes: Sequence[int] | Genes) -> Submodel:
        code = [int(g) for g in genes]
        if len(code) != 1 or not 0 <= code[0] < len(self.members):
            raise ValueError(f"genes {code} do not fit these sizes: one gene below {len(self.members)}")
        return self.members[code[0]]

    def at(self, level: float, noise: Noise) -> Submodel:
        """Ascends in MACs; unlike in a product space, not always in nesting."""
        return self.members[min(int(level * len(self.members)), len(self.members) - 1)]


def _summary(rows: Sequence[tuple[int, ...]], full: int) -> tuple[tuple[int, ...], int]:
    """The widths that occur, ascending (where none does, the full one), and the least number of branches."""
    widths = {w for row in rows for w in row if w} or {full}
    return tuple(sorted(widths)), min(sum(map(bool, row)) for row in rows)


def members_of(space: Space) -> tuple[Submodel, ...]:
    """The candidates of the selector of every family that is a list."""
    if not isinstance(space, Sizes):
        raise TypeError(f"the space is a {type(space).__name__}, not a list of sizes")
    return space.members


def tied(backbone: Backbone, smallest: float = 0.25) -> Sizes:
    """One number k ties all widths: k heads, k head-widths of channels, the hidden width in the backbone's proportion
    to the channels. k runs from ``smallest`` of the heads, rounded up, to all: 3 to 12 of ViT-B, 2 to 6 of 6 heads.
    """
    b, layers = backbone, backbone.depth

    def size(k: int) -> Submodel:
        return Submodel(max(1, b.embed * k // b.heads), (k,) * layers, (max(1, b.mlp * k // b.heads),) * layers)

    return Sizes.ladder(b, [size(k) for k in range(max(1, ceil(smallest * b.heads - 1e-9)), b.heads + 1)])


def choosing_size(select: str, nesting: str, evaluations: int) -> Choosing:
    """Natively the dearest size that fits, which is also all that Mix'n'Match and uniform shapes can mean here."""
    dearest_that_fits = mix_n_match(members_of)
    lists = {"mix_n_match": dearest_that_fits, "uniform": dearest_that_fits}
    return choosing(select, nesting, evaluations, dearest_that_fits, lists)
