"""Product spaces: which submodels are allowed, and how to draw, count, encode and bound them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, comb
from numbers import Real

import numpy as np

from eavit.model import cost
from eavit.model.arguments import described, random_generator, whole_number
from eavit.model.cost import Measure
from eavit.model.submodel import Backbone, Submodel
from eavit.space.members import (
    Genes,
    Noise,
    Widths,
    check_genes,
    check_widths,
    nearest_in_size,
    neighbours,
    widths_in_parts,
)

FILLED = 0.95  # of the MACs that the largest uniform shape within a budget uses


def _check_stage(stage: int, stages: int) -> None:
    """Raise ValueError unless 0 <= stage <= stages and there is a stage."""
    if stages < 1 or not 0 <= stage <= stages:
        raise ValueError(f"stage {stage} of {stages} is not one of 0..stages with at least 1 stage")


def _spread(count: int, depth: int) -> Widths:
    """0/1 for each layer, with ``count`` ones spread evenly."""
    layers = {i * depth // count for i in range(count)} if count else set()
    return tuple(int(layer in layers) for layer in range(depth))


def _top(widths: Widths, stage: int, stages: int) -> Widths:
    return widths[len(widths) - 1 - stage * (len(widths) - 1) // stages :]


@dataclass(frozen=True, slots=True)
class ProductSpace:
    """A product space: one embedding width, and for each layer a head count, a hidden width and two depth gates.

    Widths are ascending; ``min_attn`` and ``min_mlp`` bound how many layers keep their branch, whichever they are.
    """

    backbone: Backbone
    embeds: Widths
    heads: Widths
    mlps: Widths
    min_attn: int
    min_mlp: int

    def __post_init__(self) -> None:
        b = self.backbone
        check_widths(b, self.embeds, self.heads, self.mlps)
        if not (0 <= self.min_attn <= b.depth and 0 <= self.min_mlp <= b.depth):
            raise ValueError(f"space: min_attn={self.min_attn}, min_mlp={self.min_mlp} must lie in 0..{b.depth}")

    @classmethod
    def eavit(cls, backbone: Backbone, min_depth: float = 0.0, multiple_of: int = 1) -> ProductSpace:
        """The paper's space, scaled to any backbone: E and H from a half to the whole in steps of one head, hidden
        widths of 1/8, 1/4, 1/2, 3/4 and all, and a depth gate on each branch of each layer.

        ``min_depth`` is the fraction of attention and of MLP branches that every submodel keeps (the paper: 0).
        Embedding and hidden widths below the full ones are rounded up to multiples of ``multiple_of``, for hardware
        that is slow at others.
        """
        backbone = Backbone.of(backbone)
        if isinstance(min_depth, bool) or not isinstance(min_depth, Real):
            raise TypeError(f"min_depth is {described(min_depth)}; must be a fraction of the layers, 0 to 1")
        if not 0 <= min_depth <= 1:
            raise ValueError(f"min_depth is {min_depth}; it is a fraction of the layers, 0 to 1")
        whole_number("multiple_of", multiple_of, 1)
        steps = range(-(-backbone.heads // 2), backbone.heads + 1)
        embeds = widths_in_parts(backbone.embed, steps, backbone.heads, multiple_of)
        mlps = widths_in_parts(backbone.mlp, (1, 2, 4, 6, 8), 8, multiple_of)
        branches = ceil(min_depth * backbone.depth - 1e-9)
        return cls(backbone, embeds, tuple(steps), mlps, branches, branches)

    @classmethod
    def of_widths(cls, backbone: Backbone, mlps: Sequence[int]) -> ProductSpace:
        """Full embedding, heads and depth; only hidden widths are free (MatFormer's kind of space)."""
        return cls(backbone, (backbone.embed,), (backbone.heads,), tuple(mlps), backbone.depth, backbone.depth)

    @property
    def depth(self) -> int:
        return self.backbone.depth

    @property
    def largest(self) -> Submodel:
        layers = self.depth
        return Submodel(self.embeds[-1], (self.heads[-1],) * layers, (self.mlps[-1],) * layers)

    @property
    def smallest(self) -> Submodel:
        """One of the cheapest members: branches that must stay are spread evenly over the layers."""
        heads = tuple(self.heads[0] * on for on in _spread(self.min_attn, self.depth))
        mlp = tuple(self.mlps[0] * on for on in _spread(self.min_mlp, self.depth))
        return Submodel(self.embeds[0], heads, mlp)

    @property
    def count(self) -> int:
        """Configurations as the paper counts them: widths times gates, a skipped branch's width included."""

        def gated(least: int) -> int:
            return sum(comb(self.depth, n) for n in range(least, self.depth + 1))

        widths: int = (len(self.heads) * len(self.mlps)) ** self.depth
        return len(self.embeds) * widths * gated(self.min_attn) * gated(self.min_mlp)

    @property
    def distinct(self) -> int:
        """Different submodels: the width of a skipped branch does not matter."""

        def layers(widths: int, least: int) -> int:
            return sum(comb(self.depth, n) * widths**n for n in range(least, self.depth + 1))

        return len(self.embeds) * layers(len(self.heads), self.min_attn) * layers(len(self.mlps), self.min_mlp)

    def contains(self, submodel: Submodel | str) -> bool:
        submodel = Submodel.of(submodel)
        return (
            submodel.depth == self.depth
            and submodel.embed in self.embeds
            and all(h in self.heads for h in submodel.heads if h)
            and all(m in self.mlps for m in submodel.mlp if m)
            and sum(map(bool, submodel.heads)) >= self.min_attn
            and sum(map(bool, submodel.mlp)) >= self.min_mlp
        )

    def require(self, submodel: Submodel | str) -> Submodel:
        submodel = Submodel.of(submodel)
        if not self.contains(submodel):
            raise ValueError(
                f"submodel {submodel} is not in the space embed={self.embeds} heads={self.heads} mlp={self.mlps} "
                f"with at least {self.min_attn} attention and {self.min_mlp} MLP branches of {self.depth}"
            )
        return submodel

    def restrict(self, stage: int, stages: int = 6) -> ProductSpace:
        """The subspace of curriculum stage 0 (full model only) to ``stages`` (everything); it grows with the stage."""
        _check_stage(stage, stages)
        return replace(
            self,
            embeds=_top(self.embeds, stage, stages),
            heads=_top(self.heads, stage, stages),
            mlps=_top(self.mlps, stage, stages),
            min_attn=self.depth - stage * (self.depth - self.min_attn) // stages,
            min_mlp=self.depth - stage * (self.depth - self.min_mlp) // stages,
        )

    def restrict_from_below(self, stage: int, stages: int = 6) -> ProductSpace:
        """The subspace of the reverse curriculum: stage 0 has the smallest widths only, ``stages`` everything. The
        depth is free at every stage, since a space bounds it from below alone.
        """
        _check_stage(stage, stages)

        def bottom(widths: Widths) -> Widths:
            return widths[: 1 + stage * (len(widths) - 1) // stages]

        return replace(self, embeds=bottom(self.embeds), heads=bottom(self.heads), mlps=bottom(self.mlps))

    def narrower(self, submodel: Submodel) -> Iterator[Submodel]:
        """Members one step below: a narrower embedding, or one layer's branch a step narrower or off.

        Ever on, every path of them ends at a member that costs what ``smallest`` costs.
        """
        return self._neighbours(submodel, -1)

    def wider(self, submodel: Submodel) -> Iterator[Submodel]:
        """Members one step above; every path of them ends at ``largest``."""
        return self._neighbours(submodel, 1)

    def _neighbours(self, submodel: Submodel, step: int) -> Iterator[Submodel]:
        submodel = self.require(submodel)
        lowest = (
            int(sum(map(bool, submodel.heads)) <= self.min_attn),
            int(sum(map(bool, submodel.mlp)) <= self.min_mlp),
        )
        return neighbours(submodel, step, self.embeds, (0, *self.heads), (0, *self.mlps), lowest)

    def sample(self, rng: np.random.Generator) -> Submodel:
        """Uniform over configurations, every layer on its own."""
        rng = random_generator("rng", rng)
        widths = [rng.integers(len(options), size=self.depth) for options in (self.heads, self.mlps)]
        gates = [self._draw_gates(rng, least) for least in (self.min_attn, self.min_mlp)]
        return self.from_genes(np.concatenate([[rng.integers(len(self.embeds))], *widths, *gates]))

    def _draw_gates(self, rng: np.random.Generator, least: int) -> Genes:
        ways = np.array([comb(self.depth, n) for n in range(least, self.depth + 1)], dtype=float)
        count = least + int(rng.choice(len(ways), p=ways / ways.sum()))
        gates = np.zeros(self.depth, dtype=np.int64)
        gates[rng.permutation(self.depth)[:count]] = 1
        return gates

    @property
    def gene_sizes(self) -> Genes:
        """Number of values of each gene: embed, heads of each layer, mlp of each layer, then both rows of gates."""
        layers = self.depth
        sizes = [len(self.embeds)] + [len(self.heads)] * layers + [len(self.mlps)] * layers + [2] * (2 * layers)
        return np.array(sizes, dtype=np.int64)

    def genes(self, submodel: Submodel) -> Genes:
        """Integer code of a member; a skipped branch has the largest width's code."""
        submodel = self.require(submodel)
        heads = [self.heads.index(h or self.heads[-1]) for h in submodel.heads]
        mlp = [self.mlps.index(m or self.mlps[-1]) for m in submodel.mlp]
        gates = [int(w > 0) for w in (*submodel.heads, *submodel.mlp)]
        return np.array([self.embeds.index(submodel.embed), *heads, *mlp, *gates], dtype=np.int64)

    def from_genes(self, genes: Sequence[int] | Genes) -> Submodel:
        """The member with this code; where too many branches are off, the first ones are switched on again."""
        code, n = check_genes(genes, self.gene_sizes), self.depth
        heads, mlp, attn_on, mlp_on = (code[1 + n * i : 1 + n * (i + 1)] for i in range(4))
        attn_on, mlp_on = self._repair(attn_on, self.min_attn), self._repair(mlp_on, self.min_mlp)
        return Submodel(
            self.embeds[code[0]],
            tuple(self.heads[g] * on for g, on in zip(heads, attn_on, strict=True)),
            tuple(self.mlps[g] * on for g, on in zip(mlp, mlp_on, strict=True)),
        )

    @staticmethod
    def _repair(gates: list[int], least: int) -> list[int]:
        off = [layer for layer, on in enumerate(gates) if not on]
        revived = set(off[: max(0, least - sum(gates))])
        return [int(on or layer in revived) for layer, on in enumerate(gates)]

    def at(self, level: float, noise: Noise) -> Submodel:
        """A member between the smallest (level 0) and the largest (level 1), with offsets that let layers differ.

        ``noise`` is uniform in [0, 1), one value for each gene and for each of the two counts of branches. Nested in
        level: for one noise, ``level <= other`` implies ``at(level) <= at(other)``.
        """
        n = self.depth
        lift = np.clip(2 * level - noise, 0, 1 - 1e-9)

        def widths(options: Widths, part: Noise) -> list[int]:
            return [options[int(x)] for x in part * len(options)]

        def branches(least: int, order: Noise, height: float) -> set[int]:
            return set(np.argsort(order, kind="stable")[: least + int(height * (n - least + 1))].tolist())

        attn = branches(self.min_attn, noise[1 + 2 * n : 1 + 3 * n], lift[-2])
        mlp = branches(self.min_mlp, noise[1 + 3 * n : 1 + 4 * n], lift[-1])
        return Submodel(
            widths(self.embeds, lift[:1])[0],
            tuple(h if i in attn else 0 for i, h in enumerate(widths(self.heads, lift[1 : 1 + n]))),
            tuple(m if i in mlp else 0 for i, m in enumerate(widths(self.mlps, lift[1 + n : 1 + 2 * n]))),
        )

    def near(self, target: float, rng: np.random.Generator, measure: Measure | None = None) -> Submodel:
        """The member on a random path (:meth:`at`) whose size comes closest to ``target``."""
        noise = random_generator("rng", rng).random(len(self.gene_sizes) + 2)
        return nearest_in_size(partial(self.at, noise=noise), measure or Measure.of_macs(self.backbone), target)


def uniform_shape(backbone: Backbone, budget: float) -> Submodel | None:
    """The uniform full-depth shape that uses up to ``budget`` of the full MACs: k heads, k head-widths of channels, and
    the hidden width that fills the budget. Of the k that fill it (within a twentieth of what the best uses) the one
    whose hidden/embed ratio is closest to the backbone's. None where one head and one neuron are above the budget.
    """
    limit = budget * cost.macs(backbone, backbone.full)
    channels, layers = backbone.embed // backbone.heads, backbone.depth

    def shape(k: int, hidden: int) -> Submodel:
        return Submodel(channels * k, (k,) * layers, (hidden,) * layers)

    def filled(k: int) -> int:
        fixed, one = (cost.macs(backbone, shape(k, m)) for m in (0, 1))
        return min(backbone.mlp, int((limit - fixed) // (one - fixed)))

    hidden = {k: filled(k) for k in range(1, backbone.heads + 1)}
    ratio = backbone.mlp / backbone.embed
    fits = [k for k, m in hidden.items() if m >= 1]
    if not fits:
        return None
    used = {k: cost.macs(backbone, shape(k, hidden[k])) for k in fits}
    filling = [k for k in fits if used[k] >= FILLED * max(used.values())]
    best = min(filling, key=lambda k: abs(np.log(hidden[k] / (channels * k) / ratio)))
    return shape(best, hidden[best])
