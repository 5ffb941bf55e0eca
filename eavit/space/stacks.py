"""A space whose layers leave from the end of a stack: AutoFormer's first N layers, OFA's first N of each stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil, prod

import numpy as np

from eavit.model.submodel import Backbone, Submodel
from eavit.space.product import Genes, Noise, Space


@dataclass(frozen=True, slots=True)
class Stacks(Space):
    """Layers come in stacks of ``sizes``; a member keeps the first of each, at least ``least``, with both branches.

    Genes: the embedding's, heads of each layer, hidden width of each layer, then one count for each stack.
    """

    sizes: tuple[int, ...]
    least: tuple[int, ...]

    def __post_init__(self) -> None:
        Space.__post_init__(self)
        low = [f"{n} of {size}" for n, size in zip(self.least, self.sizes, strict=True) if not 1 <= n <= size]
        if low or sum(self.sizes) != self.depth:
            raise ValueError(
                f"stacks: sizes={self.sizes} must add up to {self.depth} layers, and each stack keep at least 1 and at "
                f"most all of its layers; least={self.least}"
            )

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        widths: tuple[Sequence[int], Sequence[int], Sequence[int]],
        sizes: Sequence[int],
        least: Sequence[int],
    ) -> Stacks:
        """``widths``: embeddings, head counts, hidden widths."""
        kept = sum(least)
        embeds, heads, mlps = (tuple(options) for options in widths)
        return cls(backbone, embeds, heads, mlps, kept, kept, tuple(sizes), tuple(least))

    def _shape(self, embed: int, heads: Sequence[int], mlp: Sequence[int], counts: Sequence[int]) -> Submodel:
        on = [i < kept for kept, size in zip(counts, self.sizes, strict=True) for i in range(size)]
        rows = ([w if kept else 0 for w, kept in zip(row, on, strict=True)] for row in (heads, mlp))
        return Submodel(embed, *map(tuple, rows))

    def counts(self, submodel: Submodel) -> tuple[int, ...]:
        """Layers that each stack keeps."""
        ends = accumulate(self.sizes)
        return tuple(sum(map(bool, submodel.heads[e - n : e])) for e, n in zip(ends, self.sizes, strict=True))

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
        stacks: int = prod(sum(kinds**kept for kept in range(low, size + 1)) for size, low in pairs)
        return len(self.embeds) * stacks

    def contains(self, submodel: Submodel) -> bool:
        if submodel.depth != self.depth or not Space.contains(self, submodel):
            return False
        counts = self.counts(submodel)
        whole = self._shape(submodel.embed, submodel.heads, submodel.mlp, counts) == submodel
        together = list(map(bool, submodel.heads)) == list(map(bool, submodel.mlp))
        return whole and together and all(n >= low for n, low in zip(counts, self.least, strict=True))

    def require(self, submodel: Submodel) -> Submodel:
        if not self.contains(submodel):
            raise ValueError(
                f"submodel {submodel} is not in the space embed={self.embeds} heads={self.heads} mlp={self.mlps} of "
                f"the first {self.least} to {self.sizes} layers of each stack"
            )
        return submodel

    def _with(self, widths: Space, least: Sequence[int]) -> Stacks:
        return Stacks.of(self.backbone, (widths.embeds, widths.heads, widths.mlps), self.sizes, least)

    def _plain(self) -> Space:
        return Space(self.backbone, self.embeds, self.heads, self.mlps, self.min_attn, self.min_mlp)

    def restrict(self, stage: int, stages: int = 6) -> Stacks:
        widths = self._plain().restrict(stage, stages)
        return self._with(
            widths, [n - stage * (n - low) // stages for n, low in zip(self.sizes, self.least, strict=True)]
        )

    def begin(self, stage: int, stages: int = 6) -> Stacks:
        return self._with(self._plain().begin(stage, stages), self.least)

    def _neighbours(self, submodel: Submodel, step: int) -> Iterator[Submodel]:
        place = self.embeds.index(submodel.embed) + step
        if 0 <= place < len(self.embeds):
            yield replace(submodel, embed=self.embeds[place])
        for heads in _moved(submodel.heads, self.heads, step):
            yield replace(submodel, heads=heads)
        for mlp in _moved(submodel.mlp, self.mlps, step):
            yield replace(submodel, mlp=mlp)
        yield from self._stack_moves(submodel, step)

    def _stack_moves(self, submodel: Submodel, step: int) -> Iterator[Submodel]:
        """A stack's next layer at the least widths, or its last one gone once it has those."""
        counts, begin = self.counts(submodel), 0
        for kept, size, low in zip(counts, self.sizes, self.least, strict=True):
            layer, begin = begin + kept - (step < 0), begin + size
            thin = step > 0 or (submodel.heads[layer], submodel.mlp[layer]) == (self.heads[0], self.mlps[0])
            if low <= kept + step <= size and thin:
                widths = (self.heads[0], self.mlps[0]) if step > 0 else (0, 0)
                rows = zip((submodel.heads, submodel.mlp), widths, strict=True)
                yield Submodel(submodel.embed, *((*row[:layer], width, *row[layer + 1 :]) for row, width in rows))

    def sample(self, rng: np.random.Generator) -> Submodel:
        """Uniform over configurations: embedding, depth of each stack, and every layer on its own."""
        return self.from_genes(rng.integers(self.gene_sizes))

    @property
    def gene_sizes(self) -> Genes:
        n = self.depth
        depths = [size - low + 1 for size, low in zip(self.sizes, self.least, strict=True)]
        return np.array([len(self.embeds), *[len(self.heads)] * n, *[len(self.mlps)] * n, *depths], dtype=np.int64)

    def genes(self, submodel: Submodel) -> Genes:
        """Integer code of a member; a skipped layer has the largest widths' code."""
        self.require(submodel)
        heads = [self.heads.index(h or self.heads[-1]) for h in submodel.heads]
        mlp = [self.mlps.index(m or self.mlps[-1]) for m in submodel.mlp]
        depths = [kept - low for kept, low in zip(self.counts(submodel), self.least, strict=True)]
        return np.array([self.embeds.index(submodel.embed), *heads, *mlp, *depths], dtype=np.int64)

    def from_genes(self, genes: Sequence[int] | Genes) -> Submodel:
        code, sizes = [int(g) for g in genes], self.gene_sizes
        if len(code) != len(sizes) or any(not 0 <= g < n for g, n in zip(code, sizes, strict=True)):
            raise ValueError(f"genes {code} do not fit these stacks: {len(sizes)} genes below {sizes.tolist()}")
        return self._decoded(code)

    def _decoded(self, code: Sequence[int]) -> Submodel:
        n = self.depth
        heads, mlp = [self.heads[g] for g in code[1 : 1 + n]], [self.mlps[g] for g in code[1 + n : 1 + 2 * n]]
        counts = [low + g for low, g in zip(self.least, code[1 + 2 * n :], strict=True)]
        return self._shape(self.embeds[code[0]], heads, mlp, counts)

    def at(self, level: float, noise: Noise) -> Submodel:
        sizes = self.gene_sizes
        lift = np.clip(2 * level - noise[: len(sizes)], 0, 1 - 1e-9)
        return self._decoded((lift * sizes).astype(np.int64).tolist())


def _moved(widths: tuple[int, ...], options: tuple[int, ...], step: int) -> Iterator[tuple[int, ...]]:
    """Each kept layer's width moved one place among the options."""
    for layer, width in enumerate(widths):
        if width and 0 <= options.index(width) + step < len(options):
            yield (*widths[:layer], options[options.index(width) + step], *widths[layer + 1 :])


def headwise(backbone: Backbone) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
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
