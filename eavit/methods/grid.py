"""A space that is a list of sizes which need not nest in each other: DynaBERT's grid of widths and depths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eavit import cost
from eavit.space import Genes, Noise, Space
from eavit.submodel import Backbone, Submodel


@dataclass(frozen=True, slots=True)
class Grid(Space):
    """``members`` by ascending MACs, the first inside all and the last around all. Their one gene is the place."""

    members: tuple[Submodel, ...]

    @classmethod
    def of(cls, backbone: Backbone, sizes: Sequence[Submodel]) -> Grid:
        if not sizes:
            raise ValueError("grid: no size at all; it needs at least one")
        members = sorted(set(sizes), key=lambda s: (cost.macs(backbone, s), str(s)))
        embeds = tuple(sorted({s.embed for s in members}))
        (heads, attn), (mlps, mlp) = (_summary(rows) for rows in ([s.heads for s in members], [s.mlp for s in members]))
        return cls(backbone, embeds, heads, mlps, attn, mlp, tuple(members))

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
            raise ValueError(f"submodel {submodel} is none of the grid's {', '.join(map(str, self.members))}")
        return submodel

    def restrict(self, stage: int, stages: int = 6) -> Grid:
        return Grid.of(self.backbone, self.members[-self._kept(stage, stages) :])

    def begin(self, stage: int, stages: int = 6) -> Grid:
        return Grid.of(self.backbone, self.members[: self._kept(stage, stages)])

    def _kept(self, stage: int, stages: int) -> int:
        if stages < 1 or not 0 <= stage <= stages:
            raise ValueError(f"stage {stage} of {stages} is not one of 0..stages with at least 1 stage")
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
            raise ValueError(f"genes {code} do not fit this grid: one gene below {len(self.members)}")
        return self.members[code[0]]

    def at(self, level: float, noise: Noise) -> Submodel:
        """Ascends in MACs; unlike in a product space, not always in nesting."""
        return self.members[min(int(level * len(self.members)), len(self.members) - 1)]


def _summary(rows: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], int]:
    """The widths that occur, ascending, and the least number of branches."""
    return tuple(sorted({w for row in rows for w in row if w})), min(sum(map(bool, row)) for row in rows)
