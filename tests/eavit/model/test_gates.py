"""Gates are the differentiable twin of a submodel: 0/1 gates and submodels say the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import backbones, nested_pairs, submodels

from eavit.model.gates import Gates
from eavit.model.submodel import Backbone, Submodel

BACKBONE = Backbone(embed=4, heads=2, head_dim=2, mlp=3, depth=2, tokens=5, num_classes=3)


@given(st.data())
def test_hardening_undoes_gates_of(data):
    backbone = data.draw(backbones())
    submodel = data.draw(submodels(backbone))
    assert Gates.of(submodel, backbone).harden() == submodel


@given(st.data())
def test_hard_gates_are_prefixes_of_ones(data):
    backbone = data.draw(backbones())
    gates = Gates.of(data.draw(submodels(backbone)), backbone)
    shapes = (gates.embed.shape, gates.heads.shape, gates.mlp.shape)
    assert shapes == ((backbone.embed,), (backbone.depth, backbone.heads), (backbone.depth, backbone.mlp))
    for gate in (gates.embed, gates.heads, gates.mlp):
        assert set(gate.unique().tolist()) <= {0.0, 1.0}
        assert (gate.diff(dim=-1) <= 0).all()


@given(st.data())
def test_nesting_is_gates_below_gates(data):
    backbone = data.draw(backbones())
    pairs = [data.draw(nested_pairs(backbone)), (data.draw(submodels(backbone)), data.draw(submodels(backbone)))]
    for a, b in pairs:
        one, other = Gates.of(a, backbone), Gates.of(b, backbone)
        below = all((getattr(one, n) <= getattr(other, n)).all() for n in ("embed", "heads", "mlp"))
        assert below == (a <= b)


@given(st.data())
def test_hardening_soft_gates_counts_those_above_one_half(data):
    backbone = data.draw(backbones())
    submodel = data.draw(submodels(backbone))
    sharp, width = Gates.of(submodel, backbone), data.draw(st.floats(0.01, 0.49))
    soft = Gates(*((gate - 0.5) * (2 * width) + 0.5 for gate in (sharp.embed, sharp.heads, sharp.mlp)))
    assert soft.harden() == submodel


def test_the_layout_of_gates():
    gates = Gates.of(Submodel(3, (2, 0), (1, 3)), BACKBONE)
    assert gates.embed.tolist() == [1, 1, 1, 0]
    assert gates.heads.tolist() == [[1, 1], [0, 0]]
    assert gates.mlp.tolist() == [[1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_gates_take_the_dtype_and_device_of_like(dtype):
    gates = Gates.of(BACKBONE.full, BACKBONE, like=torch.zeros(1, dtype=dtype, device="meta"))
    assert {(g.dtype, g.device.type) for g in (gates.embed, gates.heads, gates.mlp)} == {(dtype, "meta")}


def test_gates_of_a_foreign_submodel_are_refused():
    with pytest.raises(ValueError, match="is not nested in the backbone e4-h2x2-m3x2"):
        Gates.of(Submodel(5, (2, 2), (3, 3)), BACKBONE)
    with pytest.raises(ValueError, match="has 1 layers, the backbone has 2"):
        Gates.of(Submodel(4, (2,), (3,)), BACKBONE)


def test_gates_that_keep_no_channel_do_not_harden():
    closed = Gates(torch.zeros(4), torch.ones(2, 2), torch.ones(2, 3))
    with pytest.raises(ValueError, match="embed is 0"):
        closed.harden()
