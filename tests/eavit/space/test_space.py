"""Every kind of space offers the interface, and the public name makes the paper's space."""

from inspect import isfunction

import numpy as np
import pytest

import eavit
from eavit.methods.sizes import tied
from eavit.model.submodel import Backbone
from eavit.space.product import ProductSpace
from eavit.space.stacks import StackSpace, headwise

BACKBONE = Backbone(embed=12, heads=3, head_dim=4, mlp=24, depth=4, tokens=5, num_classes=3)
SPACES: dict[str, eavit.Space] = {  # type checkers prove here that each one is a space
    "product": ProductSpace.eavit(BACKBONE),
    "stacks": StackSpace(BACKBONE, *headwise(BACKBONE), (2, 2), (1, 1)),
    "sizes": tied(BACKBONE),
}
INTERFACE = [name for name, part in vars(eavit.Space).items() if isinstance(part, property) or isfunction(part)]


@pytest.mark.parametrize("kind", SPACES)
def test_every_space_has_the_whole_interface(kind):
    space, names = SPACES[kind], [name for name in INTERFACE if not name.startswith("_")]
    assert {"near", "largest", "genes"} <= set(names) and all(hasattr(space, name) for name in names)


@pytest.mark.parametrize("kind", SPACES)
def test_widths_and_counts_are_those_of_the_members(kind):
    space, rng = SPACES[kind], np.random.default_rng(0)
    drawn = [space.smallest, space.largest, *(space.sample(rng) for _ in range(300))]
    assert {s.embed for s in drawn} == set(space.embeds)
    assert {h for s in drawn for h in s.heads if h} == set(space.heads)
    assert {m for s in drawn for m in s.mlp if m} == set(space.mlps)
    assert min(sum(map(bool, s.heads)) for s in drawn) == space.min_attn
    assert min(sum(map(bool, s.mlp)) for s in drawn) == space.min_mlp
    assert len(set(drawn)) <= space.distinct <= space.count


def test_the_public_factory_is_no_part_of_the_interface():
    assert eavit.Space.eavit(BACKBONE, min_depth=0.5) == ProductSpace.eavit(BACKBONE, 0.5)
    assert not hasattr(SPACES["sizes"], "eavit") and not hasattr(SPACES["stacks"], "eavit")
