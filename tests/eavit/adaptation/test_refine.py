"""Shapes between members keep the limits that are asked, of whatever kind, and are adopted when measured better."""

import pytest
import torch

from eavit import refine
from eavit.adaptation.adapt import adapt
from eavit.adaptation.refine import shapes_between
from eavit.deploy.elastic import ElasticModel
from eavit.deploy.limits import Limits, UnreachableError
from tests.eavit.deploy.test_elastic import Profile
from tests.eavit.families import family, loader
from tests.eavit.small import plain

LIMITS = [
    {"budget": 0.6},
    {"params": 2500},
    {"mib": 0.009, "budget": 0.9},
    {"activation_mib": 0.0014},
    {"latency_ms": 11, "params": 3000},
]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_shapes_use_the_limits_up(limits):
    elastic = family()
    shapes = shapes_between(elastic, Limits.of(limits), Profile())
    assert shapes
    best = {
        name: max(elastic.sizes(m.submodel, Profile())[name] for m in elastic.fitting(Limits.of(limits), Profile()))
        for name in limits
    }
    for shape in shapes:
        sizes = elastic.sizes(shape, Profile())
        assert all(sizes[name] <= limit for name, limit in limits.items())
        assert shape <= elastic.backbone.full
        assert shape not in {m.submodel for m in elastic.members}
    assert any(elastic.sizes(shape, Profile())[name] > best[name] for shape in shapes for name in limits)


def test_members_with_parameters_of_their_own_have_no_shapes_on_their_way():
    elastic = family()
    elastic.by_size = {m.submodel: {} for m in elastic.members[1:]}
    assert shapes_between(elastic, Limits(budget=0.6)) == []


@pytest.fixture(scope="module")
def trained():
    return adapt(
        plain(),
        loader(shuffle=True),
        loader(48, 48, seed=1),
        (0.3, 1.0),
        4,
        "hydravit",
        schedule={"lr": 3e-3},
        progress=False,
    )


def test_a_better_shape_becomes_a_member_with_its_measured_accuracy(trained):
    val = loader(48, 48, seed=1)
    ends = [m for m in trained.members if m in (trained.members[0], trained.members[-1])]
    coarse = ElasticModel(trained.vit, type(trained.table)(tuple(ends), {}, trained.table.validation))
    limits = {"params": 0.9 * coarse.sizes(ends[-1].submodel)["params"]}
    refined = refine(coarse, val, progress=False, **limits)
    before, after = coarse.member(**limits), refined.member(**limits)
    assert after.correct > before.correct
    ((images, labels),) = val
    with torch.no_grad():
        assert after.correct == int((refined.extract(after.submodel)(images).argmax(1) == labels).sum())
    assert set(refined.members) == {*ends, after}
    assert refine(refined, val, progress=False, **limits).member(**limits).correct >= after.correct


def test_other_images_and_limits_that_no_member_keeps_are_refused(trained):
    with pytest.raises(ValueError, match="val has other images"):
        refine(trained, loader(48, 48, seed=2), budget=0.9, progress=False)
    with pytest.raises(UnreachableError, match="the smallest takes"):
        refine(trained, loader(48, 48, seed=1), budget=0.001, progress=False)


def test_where_nothing_is_better_the_family_stays_as_it_is(trained):
    assert refine(trained, loader(48, 48, seed=1), budget=1.0, progress=False) is trained
