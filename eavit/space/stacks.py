"""A space whose layers leave from the end of a stack: AutoFormer's first N layers, OFA's first N of each stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import ceil, prod

import numpy as np

from eavit.model.arguments import random_generator
from eavit.model.cost import Measure
from eavit.model.submodel import Backbone, Submodel
from eavit.space.members import Genes, Noise, Widths, check_genes, check_widths, nearest_in_size, neighbours


@dataclass(frozen=True, slots=True)
class StackSpace:
    """Layers come in stacks of ``sizes``; a member keeps the first of each, at least ``least``, with both branches.

    Genes: the embedding's, heads of each layer, hidden width of each layer, then one count for each stack.
    """

    backbone: Backbone
    embeds: Widths
    heads: Widths
    mlps: Widths
    sizes: tuple[int, ...]
    least: tuple[int, ...]

    def __post_init__(self) -> None:
        check_widths(self.backbone, self.embeds, self.heads, self.mlps)
        low = [f"{n} of {size}" for n, size in zip(self.least, self.sizes, strict=True) if not 1 <= n <= size]
        if low or sum(self.sizes) != self.depth:
            raise ValueError(
                f"stacks: sizes={self.sizes} must add up to {self.depth} layers, and each stack keep at least 1 and at "
                f"most all of its layers; least={self.least}"
            )

    @property
    def depth(self) -> int:
        return self.backbone.depth

    @property
    def min_attn(self) -> int:
        return sum(self.least)

    @property
    def min_mlp(self) -> int:
        return sum(self.least)

    def _shape(self, embed: int, heads: Sequence[int], mlp: Sequence[int], counts: Sequence[int]) -> Submodel:
        on = [i < count for count, size in zip(counts, self.sizes, strict=True) for i in range(size)]
        rows = ([w if there else 0 for w, there in zip(row, on, strict=True)] for row in (heads, mlp))
        return Submodel(embed, *map(tuple, rows))

    def counts(self, submodel: Submodel) -> tuple[int, ...]:
        """Number of layers that each stack keeps."""
        ends = accumulate(self.sizes)
        return tuple(sum(map(bool, submodel.heads[e - n : e])) for e, n in zip(ends, self.sizes, strict=True))

    @property
    def largest(self) -> Submodel:
        return self._shape(self.embeds[-1], self.heads[-1:] * self.depth, self.mlps[-1:] * self.depth, self.sizes)

    @property
    def smallest(self) -> Submodel:
        return self._shape(self.embeds[0], self.heads[:1] * self.depth, self.mlps[:1] * self.depth, self.least)

    @property
    def count(self) -> int:
        widths: int = (len(self.heads) * len(self.mlps)) ** self.depth
        return len(self.embeds) * widths * prod(n - low + 1 for n, low in zip(self.sizes, self.least, strict=True))

    @property
    def distinct(self) -> int:
        kinds, pairs = len(self.heads) * len(self.mlps), zip(self.sizes, self.least, strict=True)
        stacks: int = prod(sum(kinds**n for n in range(low, size + 1)) for size, low in pairs)
        return len(self.embeds) * stacks

    def contains(self, submodel: Submodel | str) -> bool:
        submodel = Submodel.of(submodel)
        if submodel.depth != self.depth or submodel.embed not in self.embeds:
            return False
        counts, layers = self.counts(submodel), zip(submodel.heads, submodel.mlp, strict=True)
        return (
            self._shape(submodel.embed, submodel.heads, submodel.mlp, counts) == submodel
            and all((h, m) == (0, 0) or (h in self.heads and m in self.mlps) for h, m in layers)
            and all(n >= low for n, low in zip(counts, self.least, strict=True))
        )

    def require(self, submodel: Submodel | str) -> Submodel:
        submodel = Submodel.of(submodel)
        if not self.contains(submodel):
            raise ValueError(
                f"submodel {submodel} is not in the space embed={self.embeds} heads={self.heads} mlp={self.mlps} of "
                f"the first {self.least} to {self.sizes} layers of each stack"
            )
        return submodel

    def narrower(self, submodel: Submodel) -> Iterator[Submodel]:
        return self._neighbours(submodel, -1)

    def wider(self, submodel: Submodel) -> Iterator[Submodel]:
        return self._neighbours(submodel, 1)

    def _neighbours(self, submodel: Submodel, step: int) -> Iterator[Submodel]:
        submodel = self.require(submodel)
        yield from neighbours(submodel, step, self.embeds, self.heads, self.mlps)
        yield from self._stack_moves(submodel, step)

    def _stack_moves(self, submodel: Submodel, step: int) -> Iterator[Submodel]:
        """Submodels with a stack's next layer at the least widths, or without its last one once it has those."""
        counts, begin = self.counts(submodel), 0
        for count, size, low in zip(counts, self.sizes, self.least, strict=True):
            layer, begin = begin + count - (step < 0), begin + size
            thinnest = step > 0 or (submodel.heads[layer], submodel.mlp[layer]) == (self.heads[0], self.mlps[0])
            if low <= count + step <= size and thinnest:
                widths = (self.heads[0], self.mlps[0]) if step > 0 else (0, 0)
                rows = zip((submodel.heads, submodel.mlp), widths, strict=True)
                yield Submodel(submodel.embed, *((*row[:layer], width, *row[layer + 1 :]) for row, width in rows))

    def sample(self, rng: np.random.Generator) -> Submodel:
        """Uniform over configurations: embedding, depth of each stack, and every layer on its own."""
        return self.from_genes(random_generator("rng", rng).integers(self.gene_sizes))

    @property
    def gene_sizes(self) -> Genes:
        n = self.depth
        depths = [size - low + 1 for size, low in zip(self.sizes, self.least, strict=True)]
        return np.array([len(self.embeds), *[len(self.heads)] * n, *[len(self.mlps)] * n, *depths], dtype=np.int64)

    def genes(self, submodel: Submodel) -> Genes:
        """Integer code of a member; a skipped layer has the largest widths' code."""
        submodel = self.require(submodel)
        heads = [self.heads.index(h or self.heads[-1]) for h in submodel.heads]
        mlp = [self.mlps.index(m or self.mlps[-1]) for m in submodel.mlp]
        depths = [count - low for count, low in zip(self.counts(submodel), self.least, strict=True)]
        return np.array([self.embeds.index(submodel.embed), *heads, *mlp, *depths], dtype=np.int64)

    def from_genes(self, genes: Sequence[int] | Genes) -> Submodel:
        return self._decoded(check_genes(genes, self.gene_sizes))

    def _decoded(self, code: Sequence[int]) -> Submodel:
        n = self.depth
        heads, mlp = [self.heads[g] for g in code[1 : 1 + n]], [self.mlps[g] for g in code[1 + n : 1 + 2 * n]]
        counts = [low + g for low, g in zip(self.least, code[1 + 2 * n :], strict=True)]
        return self._shape(self.embeds[code[0]], heads, mlp, counts)

    def at(self, level: float, noise: Noise) -> Submodel:
        """Same as in a product space (:meth:`eavit.space.product.ProductSpace.at`)."""
        sizes = self.gene_sizes
        lift = np.clip(2 * level - noise[: len(sizes)], 0, 1 - 1e-9)
        return self._decoded((lift * sizes).astype(np.int64).tolist())

    def near(self, target: float, rng: np.random.Generator, measure: Measure | None = None) -> Submodel:
        noise = random_generator("rng", rng).random(len(self.gene_sizes) + 2)
        return nearest_in_size(partial(self.at, noise=noise), measure or Measure.of_macs(self.backbone), target)


def headwise(backbone: Backbone) -> tuple[Widths, Widths, Widths]:
    """Embeddings and head counts from a half, rounded up, to all in steps of one head (64 x 6..12 and 6..12 of ViT-B),
    and hidden widths in quarters.
    """
    b = backbone
    heads = tuple(range(ceil(b.heads / 2), b.heads + 1))
    return (
        tuple(sorted({max(1, b.embed * h // b.heads) for h in heads})),
        heads,
        tuple(sorted({max(1, b.mlp * q // 4) for q in (1, 2, 3, 4)})),
    )
