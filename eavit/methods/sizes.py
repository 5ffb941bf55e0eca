"""Methods whose space is a list of sizes: the chain with all widths tied, and how a size is chosen."""

from __future__ import annotations

from math import ceil

from eavit.methods.choosing import Choosing, SelectOptions
from eavit.model.submodel import Backbone, Submodel
from eavit.selection.selectors import mix_n_match
from eavit.space.sizes import ListSpace
from eavit.space.space import Space


def members_of(space: Space) -> tuple[Submodel, ...]:
    """The candidates of the selector of every family that is a list."""
    if not isinstance(space, ListSpace):
        raise TypeError(f"the space is a {type(space).__name__}, not a list of sizes")
    return space.members


def tied(backbone: Backbone, smallest: float = 0.25) -> ListSpace:
    """One number k ties all widths: k heads, k head-widths of channels, the hidden width in the backbone's proportion
    to the channels. k runs from ``smallest`` of the heads, rounded up, to all: 3 to 12 of ViT-B, 2 to 6 of 6 heads.
    """
    b, layers = backbone, backbone.depth

    def size(k: int) -> Submodel:
        return Submodel(max(1, b.embed * k // b.heads), (k,) * layers, (max(1, b.mlp * k // b.heads),) * layers)

    return ListSpace.chain(b, [size(k) for k in range(max(1, ceil(smallest * b.heads - 1e-9)), b.heads + 1)])


def choosing_size(select: str, nesting: str, evaluations: int) -> Choosing:
    """The size with the most MACs that fits, unless ``select`` says otherwise, as Mix'n'Match and uniform shapes do."""
    largest_that_fits = mix_n_match(members_of)
    lists = {"mix_n_match": largest_that_fits, "uniform": largest_that_fits}
    return SelectOptions(select, nesting, evaluations).choosing(largest_that_fits, lists)
