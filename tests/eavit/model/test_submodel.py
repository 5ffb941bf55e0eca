"""Submodels are values: one spelling for each function, ordered by nesting."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import backbones, free_submodels, nested_pairs, submodels

from eavit.model.submodel import Backbone, Submodel


@given(free_submodels())
def test_parse_reads_what_str_writes(submodel):
    assert Submodel.parse(str(submodel)) == submodel
    assert hash(Submodel.parse(str(submodel))) == hash(submodel)


@given(free_submodels(), free_submodels())
def test_different_submodels_have_different_strings(one, other):
    assert (str(one) == str(other)) == (one == other)


@pytest.mark.parametrize(
    ("submodel", "text"),
    [
        (Submodel(384, (6,) * 12, (1536,) * 10 + (0, 0)), "e384-h6x12-m1536x10.0x2"),
        (Submodel(64, (1,), (0,)), "e64-h1-m0"),
        (Submodel(8, (2, 0, 2), (3, 3, 4)), "e8-h2.0.2-m3x2.4"),
        (Submodel(8, (0, 0), (0, 0)), "e8-h0x2-m0x2"),
    ],
)
def test_canonical_strings(submodel, text):
    assert str(submodel) == text
    assert Submodel.parse(text) == submodel


@pytest.mark.parametrize("loose", ["e8-h2.2-m3x1.3", "e08-h2x2-m3x2", " e8-h2x2-m3x2\n"])
def test_other_spellings_of_a_submodel_become_the_canonical_one(loose):
    assert str(Submodel.parse(loose)) == "e8-h2x2-m3x2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a submodel: ''"),
        ("full", "the form is e<embed>-h<heads>-m<hidden>"),
        ("e8-h2", "not a submodel: 'e8-h2'"),
        ("e8-h2-m3-x4", "not a submodel"),
        ("e-8-h2-m3", "not a submodel"),
        ("e8.5-h2-m3", "not a submodel"),
        ("e8-h2x-m3", "'2x' is not a width"),
        ("e8-h2..2-m3", "'' is not a width"),
        ("e8-h2-mx3", "'x3' is not a width"),
        ("e8-h2x2x2-m3", "'2x2x2' is not a width"),
        ("e0-h2-m3", "embed is 0"),
        ("e8-h2x2-m3", "2 layers of heads but 1 of mlp"),
        ("e8-h2x0-m3x0", "0 layers of heads but 0 of mlp"),
    ],
)
def test_bad_text_is_refused_with_what_is_wrong(text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        Submodel.parse(text)


@pytest.mark.parametrize("text", ["e8-h1x999999999999-m1", "e8-h1-m1x999999999999"])
def test_an_absurd_number_of_layers_is_refused_before_memory_runs_out(text):
    with pytest.raises(ValueError, match="layers"):
        Submodel.parse(text)


@pytest.mark.parametrize(
    ("widths", "says"),
    [
        ((0, (1,), (1,)), "embed is 0, must be at least 1"),
        ((-4, (1,), (1,)), "embed is -4"),
        ((4, (), ()), "0 layers of heads but 0 of mlp"),
        ((4, (1, 1), (1,)), "2 layers of heads but 1 of mlp"),
        ((4, (-1,), (1,)), "submodel: heads[0] is -1, must be at least 0"),
        ((4, (1,), (-1,)), "submodel: mlp[0] is -1"),
    ],
)
def test_impossible_widths_are_refused(widths, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        Submodel(*widths)


@given(st.data())
def test_nesting_is_a_partial_order(data):
    backbone = data.draw(backbones())
    a, b, c = (data.draw(submodels(backbone)) for _ in range(3))
    assert a <= a
    assert a <= backbone.full
    assert not (a <= b and b <= a) or a == b
    assert not (a <= b and b <= c) or a <= c
    assert (b >= a) == (a <= b)


@given(st.data())
def test_nesting_is_transitive_along_chains(data):
    backbone = data.draw(backbones())
    middle, top = data.draw(nested_pairs(backbone))
    bottom = middle.meet(data.draw(submodels(backbone)))
    assert bottom <= middle <= top
    assert bottom <= top


@given(st.data())
def test_meet_is_the_greatest_lower_bound(data):
    backbone = data.draw(backbones())
    a, b, c = (data.draw(submodels(backbone)) for _ in range(3))
    meet = a.meet(b)
    assert meet <= a
    assert meet <= b
    assert (c <= meet) == (c <= a and c <= b)
    assert meet == b.meet(a)
    assert a.meet(a) == a.meet(backbone.full) == a
    assert (a <= b) == (a.meet(b) == a)


def test_each_single_width_decides_nesting():
    wide = Submodel(8, (2, 2), (4, 4))
    thinner = [Submodel(7, (2, 2), (4, 4)), Submodel(8, (2, 1), (4, 4)), Submodel(8, (2, 2), (0, 4))]
    assert all(thin <= wide and not wide <= thin for thin in thinner)


def test_submodels_of_different_depths_are_not_comparable():
    one, two = Submodel(8, (2,), (4,)), Submodel(8, (2, 2), (4, 4))
    assert not one <= two
    assert not two <= one
    with pytest.raises(ValueError, match="of 1 and 2 layers have no common submodel"):
        one.meet(two)


BACKBONE = Backbone(embed=8, heads=2, head_dim=4, mlp=16, depth=2, tokens=5, num_classes=3)


@given(st.data())
def test_a_backbone_contains_exactly_what_is_nested_in_its_full_submodel(data):
    backbone = data.draw(backbones())
    backbone.check(data.draw(submodels(backbone)))
    assert backbone.full.depth == backbone.depth
    assert backbone.patches + backbone.prefix_tokens == backbone.tokens


@pytest.mark.parametrize(
    ("foreign", "says"),
    [
        (Submodel(8, (2,) * 3, (16,) * 3), "has 3 layers, the backbone has 2"),
        (Submodel(9, (2, 2), (16, 16)), "e9-h2x2-m16x2 is not nested in the backbone e8-h2x2-m16x2"),
        (Submodel(8, (2, 3), (16, 16)), "is not nested"),
        (Submodel(8, (2, 2), (17, 16)), "is not nested"),
    ],
)
def test_a_backbone_refuses_foreign_submodels_by_name(foreign, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        BACKBONE.check(foreign)
