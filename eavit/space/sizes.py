"""A space that is a list of sizes: those of HydraViT, Scala and SortedNet nest in each other, DynaBERT's need not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from eavit.model import cost
from eavit.model.arguments import random_generator
from eavit.model.cost import Measure
from eavit.model.submodel import Backbone, Submodel
from eavit.space.members import Genes, Widths, check_genes, nearest_in_size


@dataclass(frozen=True, slots=True)
class ListSpace:
    """``members`` by ascending MACs, the last around all; in a :meth:`chain` each lies inside the next. Their one gene
    is the place.
    """

    backbone: Backbone
    members: tuple[Submodel, ...]

    @classmethod
    def of(cls, backbone: Backbone, sizes: Sequence[Submodel]) -> ListSpace:
        """The space of these sizes, each listed once."""
        if not sizes:
            raise ValueError("a list of sizes has no size at all; it needs at least one")
        for size in sizes:
            backbone.check(size)
        return cls(backbone, tuple(sorted(set(sizes), key=lambda s: (cost.macs(backbone, s), str(s)))))

    @classmethod
    def chain(cls, backbone: Backbone, sizes: Sequence[Submodel]) -> ListSpace:
        """Sizes from small to large, each strictly inside the next."""
        for small, large in pairwise(sizes):
            if small == large or not small <= large:
                raise ValueError(f"sizes: {small} is not strictly inside {large}; each size must nest in the next one")
        return cls.of(backbone, sizes)

    @property
    def embeds(self) -> Widths:
        return tuple(sorted({s.embed for s in self.members}))

    @property
    def heads(self) -> Widths:
        return _widths([s.heads for s in self.members], self.backbone.heads)

    @property
    def mlps(self) -> Widths:
        return _widths([s.mlp for s in self.members], self.backbone.mlp)

    @property
    def min_attn(self) -> int:
        return min(sum(map(bool, s.heads)) for s in self.members)

    @property
    def min_mlp(self) -> int:
        return min(sum(map(bool, s.mlp)) for s in self.members)

    @property
    def closed(self) -> bool:
        """True if the intersection of any two members is a member: choices can then be cut into each other."""
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

    def contains(self, submodel: Submodel | str) -> bool:
        return Submodel.of(submodel) in self.members

    def require(self, submodel: Submodel | str) -> Submodel:
        submodel = Submodel.of(submodel)
        if submodel not in self.members:
            raise ValueError(f"submodel {submodel} is none of the sizes {', '.join(map(str, self.members))}")
        return submodel

    def narrower(self, submodel: Submodel) -> Iterator[Submodel]:
        """The members next below in the order of nesting; without a chain a path of them may end above ``smallest``."""
        submodel = Submodel.of(submodel)
        below = [s for s in self.members if s != submodel and s <= submodel]
        return (s for s in below if not any(s != other and s <= other for other in below))

    def wider(self, submodel: Submodel) -> Iterator[Submodel]:
        """The members next above in the order of nesting."""
        submodel = Submodel.of(submodel)
        above = [s for s in self.members if s != submodel and submodel <= s]
        return (s for s in above if not any(s != other and other <= s for other in above))

    def sample(self, rng: np.random.Generator) -> Submodel:
        return self.members[int(random_generator("rng", rng).integers(len(self.members)))]

    @property
    def gene_sizes(self) -> Genes:
        return np.array([len(self.members)], dtype=np.int64)

    def genes(self, submodel: Submodel) -> Genes:
        return np.array([self.members.index(self.require(submodel))], dtype=np.int64)

    def from_genes(self, genes: Sequence[int] | Genes) -> Submodel:
        return self.members[check_genes(genes, self.gene_sizes)[0]]

    def near(self, target: float, rng: np.random.Generator, measure: Measure | None = None) -> Submodel:
        random_generator("rng", rng).random(3)  # nothing here is random: later draws stay as in recorded runs
        by, last = measure or Measure.of_macs(self.backbone), len(self.members) - 1
        ascending = sorted(self.members, key=by.of)
        return nearest_in_size(lambda level: ascending[min(int(level * (last + 1)), last)], by, target)


def _widths(rows: Sequence[tuple[int, ...]], full: int) -> Widths:
    """The widths that occur, ascending; where none does, the full one."""
    return tuple(sorted({w for row in rows for w in row if w} or {full}))
