"""Areas of methods that do not reach every budget: over those that are reached, and compared where both reach."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from example_points import example, spoil

from harness.reports import paired_differences
from harness.reports.report_data import ReportData
from harness.results.record import Point
from harness.statistics import frames
from tests.harness import small
from tests.harness.stored import some_cell

METHODS = ("ea_vit", "matformer")
BUDGETS = (0.2, 0.4, 0.6, 0.8, 1.0)


def late(points: pd.DataFrame) -> pd.DataFrame:
    return spoil(points, (points.method == "matformer") & (points.budget < 0.6), "unreachable")


def test_areas_are_of_the_budgets_reached_and_of_two_methods_of_those_that_both_reach():
    points = example(methods=METHODS)
    data, whole = ReportData("quick", late(points)), ReportData("quick", points)
    assert data.reached_from == {"ea_vit": 0.2, "matformer": 0.6}
    upper = frames.curve_areas(points[points.budget >= 0.6]).set_index(frames.CELL)["area"]
    areas = data.areas.set_index(frames.CELL)["area"]
    assert areas["matformer"].to_numpy() == pytest.approx(upper["matformer"].to_numpy())
    assert areas["ea_vit"].equals(whole.areas.set_index(frames.CELL)["area"]["ea_vit"])
    found = paired_differences.difference(data, "matformer", "ea_vit", None)
    expected = upper["matformer"] - upper["ea_vit"]
    assert found.by_set["digits"] == pytest.approx(expected["digits"].tolist())


def test_a_method_that_reaches_nothing_has_no_area():
    points = spoil(example(methods=METHODS), example(methods=METHODS).method == "matformer", "unreachable")
    data = ReportData("quick", points)
    assert data.reached_from["matformer"] == math.inf
    assert {*data.areas["method"]} == {"ea_vit"}
    assert paired_differences.difference(data, "matformer", "ea_vit", None).by_set == {}


def test_areas_on_a_grid_over_fewer_budgets_are_of_the_records_answers():
    points = late(example(methods=METHODS, datasets=("digits",), seeds=(0,))).assign(area=0.5)
    reached = [Point(budget=b, status="ok", correct=round(100 * b), n=100) for b in BUDGETS if b >= 0.6]
    grid = (*(Point(budget=b, status="unreachable") for b in BUDGETS if b < 0.6), *reached)
    cell = str(points.loc[points.method == "matformer", "cell"].iloc[0])
    one = small.record_of(some_cell(0)).model_copy(
        update={"cell": cell, "method": "matformer", "dataset": "digits", "seed": 0, "grid": grid, "points": grid}
    )
    one = one.model_copy(update={"data": {"classes": ["a", "b"]}})
    data = ReportData("quick", points, records={cell: one})
    areas = data.areas.set_index("method")["area"]
    assert areas["ea_vit"] == 0.5
    assert areas["matformer"] == pytest.approx(0.8), "mean of 0.6, 0.8 and 1, without a guess"
    assert one.area == pytest.approx((0.5 + 0.5 + 0.6 + 0.8 + 1) / 5)


def test_methods_that_did_not_run_are_named_once_and_have_no_rows():
    points = example(methods=METHODS)
    planned = frozenset(("later", dataset, seed) for dataset in ("digits", "mnist5k") for seed in (0, 1))
    data = ReportData("quick", points, planned=planned, reference="later", leading=("later", "ea_vit"))
    assert data.not_run == ("later",)
    assert data.notices == ("Not run: `later`.",)
    assert data.methods == [*METHODS]
    assert (data.first, data.shown_first) == ("ea_vit", [*METHODS])
    assert data.denominator.states["missing"] == 4
    assert paired_differences.difference(data, "ea_vit", "later", 0.4).by_set == {}
    assert "later" not in {*data.summary["method"], *data.areas["method"]}


def test_where_nothing_ran_all_planned_methods_have_rows():
    data = ReportData("quick", example().iloc[:0], planned=frozenset({("a", "b", 0)}))
    assert data.not_run == ()
    assert data.denominator.text == "0 of 1 cells complete; 1 missing"
