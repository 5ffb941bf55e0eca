"""Small spaces, a fitness that knows the truth about them, and fronts by brute force: what tests of searches share."""

from itertools import product

import numpy as np
import torch
from hypothesis import strategies as st
from moocore import hypervolume

from eavit.model import cost
from eavit.model.importance import Scores
from eavit.model.submodel import Backbone, Submodel
from eavit.selection.front import Candidate
from eavit.space.product import ProductSpace


def backbone(depth=2, heads=4, mlp=64, tokens=17):
    return Backbone(
        embed=8 * heads, heads=heads, head_dim=8, mlp=mlp, depth=depth, tokens=tokens, num_classes=4, patch_pixels=16
    )


TINY = ProductSpace.eavit(backbone())
SMALL = ProductSpace.eavit(backbone(depth=3, heads=6))


def shape_fitness(space, seed=0, digits=2):
    """Rises with every width, each layer's worth differs, a starved branch spoils the rest; rounded, so that ties
    happen (as accuracies do)."""
    b = space.backbone
    worth = np.random.default_rng(seed).dirichlet(np.ones(2 * b.depth))

    def fitness(s):
        kept = np.concatenate([np.array(s.heads) / b.heads, np.array(s.mlp) / b.mlp])
        carried = np.prod((0.05 + 0.95 * kept**0.5) ** (worth * b.depth))
        return round(float((s.embed / b.embed) ** 0.5 * carried), digits)

    return fitness


class Recorder:
    def __init__(self, fitness):
        self.fitness, self.seen = fitness, []

    def __call__(self, submodel):
        self.seen.append(submodel)
        return self.fitness(submodel)


def point(space, submodel, fitness):
    return Candidate(submodel, cost.macs(space.backbone, submodel), cost.share(space.backbone, submodel), fitness)


def everything(space):
    b = space.backbone
    for embed, *widths in product(space.embeds, *[(0, *space.heads)] * b.depth, *[(0, *space.mlps)] * b.depth):
        submodel = Submodel(embed, tuple(widths[: b.depth]), tuple(widths[b.depth :]))
        if space.contains(submodel):
            yield submodel


def beats(a, b):
    return a.cost <= b.cost and a.fitness >= b.fitness and (a.cost, a.fitness) != (b.cost, b.fitness)


def brute_force(points):
    kept = [p for p in points if not any(beats(other, p) for other in points)]
    first = {}
    for p in sorted(kept, key=lambda p: str(p.submodel)):
        first.setdefault((p.cost, p.fitness), p)
    return tuple(sorted(first.values(), key=lambda p: p.cost))


def volume(front):
    return hypervolume(np.array([(p.share, -p.fitness) for p in front.points]), ref=[1.01, 0.0])


widths = st.integers(1, 3)
some_points = st.lists(
    st.builds(
        lambda embed, h, m, macs, fitness: Candidate(Submodel(embed, (h,), (m,)), macs, macs / 8, fitness / 4),
        widths, widths, widths, st.integers(1, 8), st.integers(0, 6),
    ),
    max_size=30,
)  # fmt: skip


def spread_front(space: ProductSpace, count: int = 9) -> tuple[Candidate, ...]:
    """A front that visits the whole range of MACs."""
    noise, b = np.random.default_rng(0).random(len(space.gene_sizes) + 2), space.backbone
    members = sorted({space.at(i / (count - 1), noise) for i in range(count)}, key=lambda s: cost.macs(b, s))
    return tuple(Candidate(s, cost.macs(b, s), cost.share(b, s), i / 10) for i, s in enumerate(members))


def scores_of(backbone, seed=0):
    """Descending in each row, as of sorted weights."""
    generator = torch.Generator().manual_seed(seed)

    def sorted_rows(*shape):
        return torch.rand(*shape, generator=generator).sort(-1, descending=True).values

    b = backbone
    return Scores(sorted_rows(b.embed), sorted_rows(b.depth, b.heads), sorted_rows(b.depth, b.mlp))
