"""The table of a forecast: aligned, one line a pair, and what is not known said in words."""

from __future__ import annotations

from harness.forecast.forecast import Estimate, Forecast, PairForecast, Range
from harness.forecast.table import lines

KNOWN = Estimate(Range(30, 60, 120), Range(2e12, 2e12, 2e12), Range(5, 5, 5), "records")
UNKNOWN = Estimate(None, None, None, "unknown: no record")


def test_the_table_is_aligned_and_sums_what_is_known() -> None:
    pairs = (PairForecast("a", "digits", 3, 2, KNOWN), PairForecast("long_name", "digits", 2, 2, UNKNOWN))
    told = lines(Forecast(2, pairs, Range(60, 180, 360), 2))
    assert told[0].split() == ["method", "data", "set", "cells", "hits", "misses", "min", "TMACs", "MiB", "from"]
    assert told[1].split() == ["a", "digits", "3", "1", "2", "2", "(1–4)", "4", "5", "records"]
    assert told[2].split()[:8] == ["long_name", "digits", "2", "0", "2", "?", "?", "?"]
    assert told[3].split() == ["all", "5", "1", "4", "4", "10"]  # two cells of 5 MiB at once
    assert [told[1].index("records"), told[2].index("unknown")] == [told[0].index("from")] * 2
    assert told[4:] == [
        "2 cells, 2 at once: 3 (1–6) minutes of wall time",
        "not included: 2 cells of unknown cost; measure them with plan --probe",
    ]


def test_nothing_to_run() -> None:
    told = lines(Forecast(2, (PairForecast("a", "digits", 3, 0, None),), None, 0))
    assert told[1].split() == ["a", "digits", "3", "3", "0", "-", "-", "-", "-"]
    assert told[-1] == "nothing to run"
