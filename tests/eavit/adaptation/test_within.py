"""Members are made for limits of any kind: each within its own, kept on record; what cannot be is refused first."""

import re

import pytest

import eavit
from eavit.adaptation.adapt import adapt
from eavit.adaptation.task import WorkdirError
from eavit.adaptation.within import limits_in
from eavit.deploy.latency import ProfileError
from eavit.deploy.limits import Limits, UnreachableError
from eavit.methods.recipe import Recipe
from tests.eavit.deploy.test_latency import profile as profile_of_parts
from tests.eavit.families import loader
from tests.eavit.small import plain


class ByDepth:
    """A device on which a submodel takes a millisecond for each branch, and a little for its channels."""

    def __init__(self, pace=1.0):
        self.pace = pace

    def check(self, backbone):
        pass

    def latency_ms(self, submodel):
        return self.pace * (1 + sum(map(bool, (*submodel.heads, *submodel.mlp))) + submodel.embed / 1000)


LIMITS = [
    {"latency_ms": 5.2},
    {"latency_ms": 6.2, "mib": 0.009},
    {"params": 2000},
    {"activation_mib": 0.0016},
    {"macs": 9000},
    {"budget": 0.7, "latency_ms": 7},
]


def adapted(within, profile=None, **changes):
    arguments = {"epochs": 1, "schedule": {"lr": 3e-3}, "options": {"shapes": {"population": 4}}, "progress": False}
    return adapt(
        *(plain(), loader(shuffle=True), loader(48, 48, seed=1)), within=within, profile=profile, **arguments | changes
    )


@pytest.fixture(scope="module")
def family():
    return adapted(LIMITS, ByDepth())


def test_each_member_keeps_its_limits_and_is_recorded_with_what_it_takes(family, tmp_path):
    rows = family.table.method["within"]
    assert [row["limits"] for row in rows] == [Limits.of(each).asked for each in LIMITS]
    members = {str(m.submodel): m for m in family.members}
    assert {*members} == {*(row["submodel"] for row in rows), str(family.backbone.full)}
    for limits, row in zip(LIMITS, rows, strict=True):
        sizes = family.sizes(members[row["submodel"]].submodel, ByDepth())
        assert row["takes"] == {name: sizes[name] for name in limits}
        assert all(sizes[name] <= limit for name, limit in limits.items())
    again = eavit.load(family.save(tmp_path / "family"))
    assert again.table.method["within"] == rows
    assert again.members == family.members


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_the_choice_within_the_same_limits_is_that_member_or_a_better_one(family, limits):
    (row,) = (row for row in family.table.method["within"] if row["limits"] == limits)
    made = next(m for m in family.members if str(m.submodel) == row["submodel"])
    assert family.member(profile=ByDepth(), **limits).accuracy >= made.accuracy


def test_one_mapping_is_one_member_and_equal_seeds_give_equal_members():
    first, second = (adapted({"latency_ms": 5.2}, ByDepth()) for _ in range(2))
    assert len(first.members) == 2 and first.members == second.members
    assert max(first.members[0].submodel.heads) == first.backbone.heads  # by MACs it would be narrow


def test_a_work_folder_of_other_limits_or_another_profile_is_refused(tmp_path):
    adapted([{"latency_ms": 5.2}], ByDepth(), workdir=tmp_path)
    with pytest.raises(WorkdirError, match=re.escape("within was [{'latency_ms': 5.2}] and is [{'latency_ms': 6.2}]")):
        adapted([{"latency_ms": 6.2}], ByDepth(), workdir=tmp_path)
    with pytest.raises(WorkdirError, match=r"holds another run: profile was '\w+' and is '\w+'"):
        adapted([{"latency_ms": 5.2}], ByDepth(1.01), workdir=tmp_path)
    with pytest.raises(WorkdirError, match="budgets was"):
        adapted(None, workdir=tmp_path)


SMALLEST = "no submodel keeps to latency_ms=3: the smallest takes 5.003 ms"
BAD = {
    "unknown kind": ({"within": {"latency": 8}}, ValueError, "limit latency is unknown; .*nearest: latency_ms"),
    "impossible value": ({"within": [{"mib": -1}]}, ValueError, "limit mib=-1"),
    "no limit": ({"within": []}, ValueError, "at least one set of limits"),
    "empty set": ({"within": [{}]}, ValueError, "no limit is given"),
    "no mapping": ({"within": [8]}, ValueError, "8 is no mapping"),
    "twice": ({"within": [{"mib": 1}, {"mib": 1}]}, ValueError, "each once"),
    "unreachable": ({"within": {"latency_ms": 3}, "profile": ByDepth()}, UnreachableError, SMALLEST),
    "unreachable together": (
        {"within": {"latency_ms": 6, "params": 100}, "profile": ByDepth()},
        UnreachableError,
        "params=100: the smallest takes",
    ),
    "above the full model": (
        {"within": {"latency_ms": 8}, "profile": ByDepth()},
        ValueError,
        "latency_ms=8: the full model keeps this, it takes latency_ms=7.012",
    ),
    "no profile": ({"within": {"latency_ms": 5}}, ValueError, "needs a profile .*profile_latency"),
    "profile without milliseconds": ({"within": {"mib": 0.009}, "profile": ByDepth()}, ValueError, "has none"),
    "profile alone": ({"within": None, "profile": ByDepth()}, ValueError, "profile is for limits in milliseconds"),
    "profile of another backbone": (
        {"within": {"latency_ms": 5}, "profile": profile_of_parts(), "model": plain(num_classes=4)},
        ProfileError,
        "num_classes is 4, in the profile 3",
    ),
    "budgets too": ({"within": {"mib": 0.009}, "budgets": (0.4,)}, ValueError, r"budgets=\[0.4\] and within: give one"),
    "method by MACs": ({"within": {"mib": 0.009}, "method": "ea_vit"}, ValueError, "methods that do: ea_vit_plus"),
    "options by MACs": (
        {"within": {"mib": 0.009}, "options": {"members": {"count": 5}}},
        ValueError,
        "with these options makes members for budgets of MACs only",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_before_any_work(case, monkeypatch):
    arguments, error, said = BAD[case]
    monkeypatch.setattr(Recipe, "adapt", lambda *_: pytest.fail("training began"))
    with pytest.raises(error, match=said):
        adapt(**{"model": plain(), "train": loader(), "val": loader(), "progress": False} | arguments)


def test_limits_may_come_as_one_mapping_or_several():
    assert limits_in({"mib": 1}) == limits_in([{"mib": 1}]) == (Limits(mib=1),)
    assert limits_in([{"mib": 1}, {"mib": 2, "params": 3}]) == (Limits(mib=1), Limits(mib=2, params=3))
