"""Checks of options name the option, its value, what is allowed, and the nearest match."""

from dataclasses import dataclass

import pytest

from eavit.options import allowed, number, options_table, refuse, switch, whole


@dataclass(frozen=True)
class Pair:
    left: int = 1
    right: int = 2


def test_right_values_pass():
    assert allowed("x", "a", ("a", "b")) == "a"
    assert number("x", 1, "[0, 1]") == 1.0 and number("x", 3.5, "(0, inf)") == 3.5
    assert whole("x", 0, 0) == 0 and switch("x", False) is False
    assert options_table(Pair, "pair", {"right": 5}) == Pair(1, 5) and options_table(Pair, "pair", Pair(3)) == Pair(3)
    refuse({}, ("a",), {})


@pytest.mark.parametrize(
    ("check", "match"),
    [
        (lambda: allowed("x", "natve", ("native", "free")), "allowed: native, free; nearest: native$"),
        (lambda: number("x", 1, "[0, 1)"), r"option x=1: must be a number in \[0, 1\)"),
        (lambda: number("x", 0.0, "(0, inf)"), r"x=0\.0"),
        (lambda: number("x", float("nan"), "[0, inf)"), "x=nan"),
        (lambda: number("x", float("inf"), "[0, inf)"), "x=inf"),
        (lambda: number("x", "1", "[0, 1]"), "x='1'"),
        (lambda: number("x", True, "[0, 1]"), "x=True"),
        (lambda: whole("x", 1.0, 1), "option x=1.0: must be a whole number from 1 up"),
        (lambda: whole("x", True, 1), "x=True"),
        (lambda: switch("x", 1), "option x=1: must be true or false"),
        (lambda: options_table(Pair, "pair", {"rigt": 1}), "option pair.rigt is unknown; .*nearest: right"),
        (lambda: options_table(Pair, "pair", 7), "option pair=7: must be a table with any of left, right"),
        (lambda: refuse({"old": 3}, ("pair",), {"old": "pair.left"}), "option old=3: is written pair.left now"),
        (lambda: refuse({"par": 3}, ("pair",), {}), "option par is unknown; allowed: pair; nearest: pair"),
    ],
)  # fmt: skip
def test_wrong_values_are_named(check, match):
    with pytest.raises(ValueError, match=match):
        check()
