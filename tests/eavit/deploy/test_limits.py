"""Limits: unknown kinds and impossible values are refused by name."""

import pytest

from eavit.deploy.limits import Limits, UnreachableError, sizes_of, unreachable
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
