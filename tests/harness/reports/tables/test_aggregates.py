"""Means over data sets, their bounds and ranks."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from example_points import example

from tests.harness.reports.tables.shown_tables import line, page


def every(points: pd.DataFrame, *more: tuple[str, str, int]) -> frozenset[tuple[str, str, int]]:
    return frozenset(points[["method", "dataset", "seed"]].itertuples(index=False, name=None)) | set(more)


def test_denominator_and_bounds_know_the_plan():
    points = example(methods=("ea_vit", "matformer"))
    text = page(points, planned=every(points, ("ea_vit", "digits", 2)))
    assert "8 of 9 cells complete; 1 missing. Seeds: 0, 1, 2." in text
    low, high = map(float, line(text, "ea_vit", "Bounds of what is absent")[1].split(" to "))
    mean = 100 * points[(points.method == "ea_vit") & (points.budget == 0.2)].groupby("dataset").accuracy.mean().mean()
    assert low < mean < high
    assert high - low == pytest.approx(100 / 3 / 2, abs=0.2)  # one of three seeds on one of two sets, 0 to 100
    assert "matformer" not in text.split("## Bounds of what is absent")[1].split("\n## ")[0]
    text = page(points)
    assert "8 of 8 cells complete. Seeds: 0, 1." in text
    assert "Bounds" not in text


def test_ranks_only_with_enough_sets():
    assert "None: 2 data sets; with fewer than 6" in page(example())
    sets = tuple(f"set{i}" for i in range(6))
    text = page(example(seeds=(0,), datasets=sets, methods=("ea_vit", "matformer", "slice_untrained")))
    assert line(text, "slice_untrained", "Mean ranks")[1] == "3.00"
    assert re.search(r"Friedman p +\| +0\.00\d", text)
