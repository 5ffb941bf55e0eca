"""Choices keep every limit, the best one wins, and a call with a limit runs the chosen submodel."""

import pytest
import torch

from eavit.deploy.elastic import ElasticModel, FamilyRecord, MeasuredMember, Validation, ascending
from eavit.deploy.limits import UnreachableError
from eavit.model.submodel import Submodel
from tests.eavit.families import KEYS, family

IMAGES = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Profile:
    """A device on which a submodel takes its channels in milliseconds."""

    def check(self, backbone):
        pass

    def latency_ms(self, submodel):
        return float(submodel.embed)


def test_the_choice_keeps_all_limits_and_is_the_most_accurate():
    elastic = family()
    for limits in ({"budget": 0.5}, {"params": 1500}, {"macs": 7000}, {"mib": 0.005}, {"latency_ms": 9}):
        limits |= {"budget": 0.9} if "budget" not in limits else {}
        choice = elastic.choose(profile=Profile(), **limits)
        sizes = elastic.sizes(choice, Profile())
        assert all(sizes[name] <= limit for name, limit in limits.items())
        better = [m for m in elastic.members if m.accuracy > elastic.member(profile=Profile(), **limits).accuracy]
        assert all(any(elastic.sizes(m.submodel, Profile())[k] > v for k, v in limits.items()) for m in better)


def test_a_cheaper_member_that_is_better_is_chosen():
    worse, better = Submodel.parse(KEYS[2]), Submodel.parse(KEYS[0])
    table = FamilyRecord(
        (MeasuredMember(better, 90, 96), MeasuredMember(worse, 80, 96)), {1.0: KEYS[2]}, Validation(96, "")
    )
    assert ElasticModel(family().vit, table).choose(budget=1.0) == better


def test_what_cannot_be_reached_is_said_with_what_the_smallest_takes():
    with pytest.raises(UnreachableError, match=r"latency_ms=5: the smallest takes 6 ms"):
        family().choose(latency_ms=5, profile=Profile())
    with pytest.raises(UnreachableError, match="the smallest takes .* of the full model's MACs"):
        family().choose(budget=0.01)


def test_latency_needs_a_profile():
    with pytest.raises(ValueError, match="latency_ms needs a profile"):
        family().choose(latency_ms=5)


def test_a_call_with_a_limit_runs_the_choice():
    elastic = family()
    assert torch.equal(elastic(IMAGES, budget=0.4), elastic(IMAGES, elastic.choose(budget=0.4)))
    assert torch.equal(elastic(IMAGES), elastic.vit(IMAGES))
    assert torch.allclose(elastic(IMAGES, budget=0.4), elastic.extract(budget=0.4)(IMAGES), atol=1e-6)


def test_each_profile_has_choices_of_its_own():
    class Constant(Profile):
        def __init__(self, ms):
            self.ms = ms

        def latency_ms(self, submodel):
            return self.ms * submodel.embed

    elastic = family()
    for ms in (1.0, 0.5):  # the second one is likely to get the id of the first, which is gone
        profile = Constant(ms)
        wanted = elastic.choose(profile=profile, latency_ms=6)
        assert torch.equal(elastic(IMAGES, profile=profile, latency_ms=6), elastic(IMAGES, wanted))
        del profile


def test_a_submodel_and_limits_together_are_refused():
    with pytest.raises(ValueError, match="a submodel or limits, not both"):
        family().extract(KEYS[0], budget=0.5)


def test_the_interval_holds_the_accuracy_and_narrows():
    few, many = (MeasuredMember(Submodel.parse(KEYS[0]), k, n).interval for k, n in ((9, 10), (900, 1000)))
    assert few[0] < many[0] < 0.9 < many[1] < few[1] <= 1
    assert MeasuredMember(Submodel.parse(KEYS[0]), 10, 10).interval[1] == pytest.approx(1.0)


def test_members_are_ordered_by_cost_each_once():
    elastic = family()
    first, *_, last = elastic.members
    assert ascending(elastic.backbone, [last, first, last]) == (first, last)


def test_a_family_without_members_is_refused():
    with pytest.raises(ValueError, match="no member"):
        FamilyRecord((), {}, Validation(1, ""))
