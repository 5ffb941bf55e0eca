from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from example_points import example, row, spoil

from harness.statistics import frames


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def where(points: pd.DataFrame, **values: object) -> pd.Series:
    return np.logical_and.reduce([points[key] == value for key, value in values.items()])


def test_summary_is_over_seeds_within_method_set_and_budget():
    points = example(seeds=(0, 1, 2))
    found = frames.accuracy_summary(points).set_index(frames.KEYS)
    picked = points[(points.method == "ea_vit") & (points.dataset == "digits") & (points.budget == 0.4)]
    here = found.loc[("ea_vit", "digits", 0.4)]
    assert here["mean"] == pytest.approx(picked["accuracy"].mean())
    assert here["half"] == pytest.approx(4.302652729911275 * picked["accuracy"].std(ddof=1) / math.sqrt(3))
    assert (here["seeds"], here["ok"], here["missing"]) == (3, 3, 0)
    assert len(found) == 5 * 2 * 5


def test_summary_counts_every_status_and_invents_nothing():
    points = example(seeds=(0, 1), methods=("ea_vit", "matformer"), datasets=("digits",))
    points = spoil(points, (points.method == "matformer") & (points.seed == 1), "oom")
    points = points[~((points.method == "ea_vit") & (points.seed == 1) & (points.budget == 0.2))]
    found = frames.accuracy_summary(points).set_index(frames.KEYS)
    half_gone, holed = found.loc[("matformer", "digits", 0.2)], found.loc[("ea_vit", "digits", 0.2)]
    assert (half_gone["oom"], half_gone["seeds"], holed["missing"], holed["seeds"]) == (1, 1, 1, 1)
    assert math.isnan(half_gone["half"])
    assert math.isnan(holed["half"])
    assert half_gone["mean"] > 0.5, "a failed seed is left out, not counted as zero"


def test_areas_leave_out_curves_with_holes_and_count_unreachable_as_chance():
    points = example(seeds=(0, 1), methods=("ea_vit", "matformer"), datasets=("digits",))
    points = spoil(points, (points.method == "matformer") & (points.budget == 0.2), "unreachable")
    points = spoil(points, (points.method == "ea_vit") & (points.seed == 1) & (points.budget == 0.6), "nan")
    found = frames.curve_areas(points, chance={"digits": 0.1}).set_index(frames.CELL)["area"]
    assert math.isnan(found["ea_vit", "digits", 1])
    assert 0.9 < found["ea_vit", "digits", 0] < 1
    without = frames.curve_areas(points).set_index(frames.CELL)["area"]
    gap = math.log2(0.4 * 0.98 / 0.2) / math.log2(5)  # from the lower bound to the first choice, in the whole range
    difference = found["matformer", "digits", 0] - without["matformer", "digits", 0]
    assert difference == pytest.approx(0.1 * gap)


def test_areas_on_a_grid_count_where_every_whole_cell_has_one():
    points = example(seeds=(0, 1), methods=("ea_vit", "matformer"), datasets=("digits",)).assign(area=0.75)
    points = spoil(points, (points.method == "matformer") & (points.seed == 1) & (points.budget == 0.2), "nan")
    points.loc[(points.method == "matformer") & (points.seed == 1), "area"] = math.nan
    assert frames.suites_on_grid(points) == ["quick"]
    found = frames.curve_areas(points).set_index(frames.CELL)["area"]
    assert found["ea_vit", "digits", 0] == found["matformer", "digits", 0] == 0.75
    assert math.isnan(found["matformer", "digits", 1])
    points.loc[(points.method == "ea_vit") & (points.seed == 1), "area"] = math.nan
    assert frames.suites_on_grid(points) == []
    older = frames.curve_areas(points.drop(columns="area"))
    pd.testing.assert_frame_equal(frames.curve_areas(points), older)


def test_choices_between_the_budgets_are_on_the_front():
    points = example(seeds=(0,), methods=("ea_vit",), datasets=("digits",))
    macs = points["macs"].sort_values().iloc[:2].mean()
    between = pd.DataFrame([{**points.iloc[0].to_dict(), "macs": macs, "accuracy": 0.9999}])
    curve = frames.step_fronts(points, between)["ea_vit"]["digits"][0]
    assert curve.at(macs) == 0.9999
    assert frames.step_fronts(points)["ea_vit"]["digits"][0].at(macs) < 0.9999


def test_a_method_reaches_from_the_budget_above_the_last_that_any_seed_misses():
    points = example(seeds=(0, 1), methods=("ea_vit", "matformer", "fixed_uniform"), datasets=("digits",))
    points = spoil(points, (points.method == "matformer") & (points.budget == 0.4) & (points.seed == 1), "unreachable")
    points = spoil(points, (points.method == "fixed_uniform") & (points.budget == 1.0), "unreachable")
    assert frames.reached_from(points) == {"ea_vit": 0.2, "matformer": 0.6, "fixed_uniform": math.inf}


def test_intervals_of_accuracy_stay_within_what_is_possible():
    points = example(seeds=(0, 1), methods=("ea_vit",), datasets=("digits",))
    points.loc[points.seed == 0, "accuracy"] = 0.2
    found = frames.accuracy_summary(points)
    assert (found["half"] > 1).all()
    assert {*found["low"], *found["high"]} == {0.0, 1.0}


def test_use_of_budgets():
    found = frames.budget_use(example(seeds=(0,), methods=("ea_vit",)))
    assert found["use"].to_numpy() == pytest.approx([0.98] * 10)


def test_grid_spans_all_that_was_seen():
    points = pd.DataFrame([row("a", "x", 0, 0.5, 0.5), row("b", "y", 1, 1.0, 0.5)])
    full = frames.completed(points)
    assert len(full) == 16
    assert (full["status"] == "missing").sum() == 14
    assert {tuple(key) for key in full[["method", "dataset", "seed", "budget"]].to_numpy().tolist()} == set(
        product(("a", "b"), ("x", "y"), (0, 1), (0.5, 1.0))
    )


# --- several suites, any order ------------------------------------------------------------------------------------


def test_two_suites_are_never_mixed():
    one = example(seeds=(0, 1, 2), methods=("ea_vit",), datasets=("digits",))
    other = one.assign(suite="core", accuracy=one["accuracy"] / 2)
    other = other[other["seed"] != 2]
    both = frames.accuracy_summary(pd.concat([one, other], ignore_index=True))
    assert both.groupby("suite")["seeds"].max().to_dict() == {"core": 2, "quick": 3}
    assert (both["missing"] == 0).all(), "a seed of the one suite is not missing in the other"
    alone = frames.accuracy_summary(one).drop(columns="suite").reset_index(drop=True)
    mine = both[both["suite"] == "quick"].drop(columns="suite").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone)
    assert len(frames.curve_areas(pd.concat([one, other], ignore_index=True))) == 5


def numbers(points: pd.DataFrame) -> list[object]:
    chance = {"digits": 0.1}
    found = frames.step_fronts(points)
    return [
        frames.accuracy_summary(points).to_csv(),
        frames.curve_areas(points, chance).to_csv(),
        frames.set_scores(points, 0.6),
        frames.denominator(frames.completed(points)),
        frames.worst_case_bounds(frames.completed(points), "ea_vit", 0.6, chance),
        frames.cost_break_even(points, "ea_vit", "fixed_uniform", "train_macs"),
        {name: {key: sorted(by.items()) for key, by in sorted(one.items())} for name, one in sorted(found.items())},
    ]


@pytest.mark.parametrize("seed", [0, 1])
def test_means_do_not_depend_on_the_order_of_rows(seed):
    points = spoilt()
    mixed = points.sample(frac=1, random_state=seed)
    assert repr(numbers(mixed)) == repr(numbers(points))


def spoilt() -> pd.DataFrame:
    points = example(seeds=(0, 1, 2))
    points = spoil(points, where(points, method="matformer", budget=0.2), "unreachable")
    return spoil(points, where(points, method="ea_vit", dataset="digits", seed=2), "oom")


# --- denominators -------------------------------------------------------------------------------------------------


def test_denominator_counts_cells_by_their_worst_status():
    found = frames.denominator(frames.completed(spoilt()))
    assert found.text == "29 of 30 cells complete; 1 oom"
    planned = [(m, d, s) for m in ("ea_vit", "new") for d in ("digits", "mnist5k") for s in (0, 1, 2, 3)]
    points = spoilt()
    found = frames.denominator(frames.completed(points[points["method"] == "ea_vit"], planned), planned)
    assert (found.planned, found.whole) == (16, 5)
    assert found.states == {"ok": 5, "oom": 1, "missing": 10}
    assert frames.denominator(points[:0], planned).text == "0 of 16 cells complete; 16 missing"
    assert frames.denominator(points[:0]).text == "0 of 0 cells complete"


def test_planned_cells_are_there_and_no_others_are_invented():
    points = example(seeds=(0,), methods=("ea_vit",), datasets=("digits",))
    full = frames.completed(points, [("ea_vit", "digits", 0), ("matformer", "mnist5k", 1)])
    assert len(full) == 10
    assert full[full["method"] == "matformer"]["status"].unique().tolist() == ["missing"]
    more = frames.completed(points, budgets=[0.3, 1.0])
    assert more[more["status"] == "missing"]["budget"].tolist() == [0.3]


def worst(points: pd.DataFrame, planned=(), **chance: float) -> tuple[float, float] | None:
    return frames.worst_case_bounds(frames.completed(points, planned), "a", 0.5, chance)


def test_worst_case_by_hand():
    points = pd.DataFrame([row("a", d, s, 0.5, 0.8) for d in "xy" for s in (0, 1)])
    assert worst(points, x=0.1, y=0.5) == pytest.approx((0.8, 0.8))
    holed = spoil(points, where(points, dataset="x", seed=0), "oom")
    assert worst(holed, x=0.1, y=0.5) == pytest.approx((0.8 - 0.7 / 4, 0.8 + 0.2 / 4))
    answered = spoil(points, where(points, dataset="x"), "unreachable")
    assert worst(answered, x=0.1, y=0.5) == pytest.approx((0.45, 0.45))
    assert frames.worst_case_bounds(frames.completed(points), "none", 0.5, {}) is None
    assert worst(points, [*points[frames.CELL].itertuples(index=False, name=None), ("a", "z", 0)]) == pytest.approx(
        (1.6 / 3, 2.6 / 3)
    )


def test_the_worst_case_holds_whatever_a_missing_cell_would_have_given():
    points = example(seeds=(0, 1, 2), methods=("ea_vit",))
    here = points[points["budget"] == 0.4]
    truth = here.groupby("dataset")["accuracy"].mean().mean()
    holed = spoil(points, where(points, method="ea_vit", seed=1), "killed")
    low, high = frames.worst_case_bounds(frames.completed(holed), "ea_vit", 0.4, {"digits": 0.1, "mnist5k": 0.1})
    assert low < truth < high


# --- curves, cost ------------------------------------------------------------------------------------


def test_ties_give_no_interval():
    assert frames.accuracy_summary(example().assign(accuracy=0.5))["half"].isna().all(), "no spread is no certainty"


def test_values_are_found_by_cell():
    points = pd.DataFrame([row("a", "d", 1, 0.5, 0.5), row("a", "d", 0, 0.5, 0.9), row("b", "d", 0, 0.5, 0.8)])
    assert frames.by_cell(points, "accuracy") == {"a": {"d": {1: 0.5, 0: 0.9}}, "b": {"d": {0: 0.8}}}


def test_scores_leave_out_sets_that_a_method_lacks():
    points = spoil(spoilt(), where(example(seeds=(0, 1, 2)), method="matformer", dataset="digits"), "nan")
    found, sets = frames.set_scores(points, 0.6)
    assert sets == ("mnist5k",)
    assert sorted(found) == sorted(points["method"].unique())
    assert frames.set_scores(points, 0.2) == ({name: [] for name in found}, ())


def test_fronts_have_no_holes():
    found = frames.step_fronts(spoilt())
    assert sorted(found["ea_vit"]["digits"]) == [0, 1]
    assert sorted(found["ea_vit"]["mnist5k"]) == [0, 1, 2]
    assert "none" not in found


def test_break_even_shares_a_cells_cost_among_its_sizes():
    points = example(seeds=(0, 1))
    points.loc[points["method"] == "fixed_uniform", "train_macs"] = 10e12
    points = spoil(points, where(points, method="fixed_uniform", budget=0.2), "unreachable")
    found = frames.cost_break_even(points, "ea_vit", "fixed_uniform", "train_macs")
    assert found.ratio.estimate == pytest.approx(4.1e12 / (10e12 / 4))
    assert (found.sizes, found.low, found.high) == (2, 2, 2)
