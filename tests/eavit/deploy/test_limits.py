"""Limits: unknown kinds and impossible values are refused by name."""

import numpy as np
import pytest

from eavit.deploy.limits import Limits, UnreachableError, sizes_of, target_of, unreachable
from eavit.model.cost import Measure
from eavit.space.product import ProductSpace
from tests.eavit.families import KEYS, family


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "8", [1]])
def test_an_impossible_limit_is_refused(value):
    with pytest.raises(ValueError, match="limit mib="):
        Limits.of({"mib": value})


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"limit latency is unknown; allowed: .*nearest: latency_ms"):
        Limits.of({"latency": 8})


def test_no_limit_is_refused():
    with pytest.raises(ValueError, match="no limit is given"):
        Limits.of({"budget": None})


def test_sizes_are_those_of_the_extract():
    elastic = family()
    for key in KEYS:
        plain = elastic.extract(key)
        count = sum(p.numel() for p in plain.parameters())
        sizes = sizes_of(elastic.backbone, elastic.backbone.check(key))
        assert (sizes["params"], sizes["mib"]) == (count, count * 4 / 2**20)


def test_limits_that_hold_alone_but_not_together_are_said_so():
    sizes = [{"macs": 1.0, "mib": 9.0}, {"macs": 5.0, "mib": 1.0}, {"macs": 7.0, "mib": 1.5}]
    error = unreachable(Limits(macs=2, mib=2), sizes)
    assert isinstance(error, UnreachableError)
    assert "not all of them together" in str(error)
    assert "macs=2: the smallest that keeps the others takes 5 MACs" in str(error)
    assert "mib=2: the smallest that keeps the others takes 9 MiB of weights" in str(error)


def test_of_several_limits_those_that_none_keeps_are_named():
    error = unreachable(Limits(macs=2, latency_ms=8), [{"macs": 1.0, "latency_ms": 11.0}])
    assert "latency_ms=8: the smallest takes 11 ms" in str(error)
    assert str(unreachable(Limits(latency_ms=8), [{"latency_ms": 11.0}])) == (
        "no submodel keeps to latency_ms=8: the smallest takes 11 ms"
    )
    assert "macs=" not in str(error).partition(": ")[2]


@pytest.mark.parametrize(
    "limits",
    [
        {"budget": 0.5},
        {"macs": 9000},
        {"budget": 0.6, "macs": 9000},
        {"params": 2500},
        {"mib": 0.009, "budget": 0.9},
        {"latency_ms": 11, "params": 3000},
    ],
    ids=str,
)
def test_a_target_fits_what_keeps_the_limits(limits):
    space, asked = ProductSpace.eavit(family().backbone), Limits.of(limits)
    others = {"latency_ms": lambda s: float(s.embed)}
    target, rng = target_of(asked, space.backbone, others), np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(200)]
    fits = [target.fits(s) for s in drawn]
    assert fits == [not any(asked.exceeded(sizes_of(space.backbone, s, others))) for s in drawn]
    assert any(fits) and not all(fits)
    assert target.measure.share(space.backbone.full) == 1


def test_limits_in_one_proportion_have_one_measure():
    b = family().backbone

    def measure(**limits):
        return target_of(Limits(**limits), b).measure

    assert measure(budget=0.5) == measure(macs=100) == Measure.of_macs(b)
    assert measure(params=100) == measure(params=50) != measure(mib=1)
    assert measure(params=100, mib=2) == measure(params=50, mib=1) != measure(params=50, mib=2)
