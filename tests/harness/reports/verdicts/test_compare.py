from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from example_points import example, row, spoil

from harness.reports.verdicts.compare import compare, comparison_lines, reasons_against
from harness.results.results import Results
from tests.harness.kept import results_of


def results(points: pd.DataFrame, name: str = "A", bitmaps=None) -> Results:
    identity = {"counter": 1, "data": "d" * 8, "code": "c" * 8} | known(points)
    return results_of(points.assign(**identity), name, bitmaps)


def known(points: pd.DataFrame) -> dict:
    return {column: points[column] for column in ("counter", "data", "code") if column in points}


def moved(points: pd.DataFrame, by: float) -> pd.DataFrame:
    return points.assign(accuracy=points["accuracy"] + by, correct=(points["correct"] + 500 * by).round())


def test_differences_are_paired_by_seed_and_have_intervals():
    points = example(seeds=(0, 1, 2), methods=("ea_vit", "matformer"))
    noise = np.random.default_rng(0).normal(0, 0.001, len(points))
    found = compare(results(points), results(points.assign(accuracy=points.accuracy + 0.02 + noise), "B"))
    assert len(found.differences) == 2 * 5
    for one in found.differences:
        assert (one.points, one.sets) == (6, 2)
        assert one.interval.low < 0.02 < one.interval.high
        assert one.interval.half < 0.005  # seeds differ by more than that; pairs do not
    assert "ea_vit at 20 %: +" in "\n".join(comparison_lines(found))


def test_a_folder_against_itself_shows_no_difference():
    points = results(example(seeds=(0, 1)))
    found = compare(points, points)
    assert all(one.interval.estimate == 0 for one in found.differences)
    assert not reasons_against(found)


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("counter", 2, "counter version"),
        ("data", "other", "data fingerprint"),
        ("code", "other", "code"),
        ("n", 400, "test images"),
        ("full_macs", 5, "budget"),
    ],
)
def test_what_differs_makes_points_not_comparable(column, value, word):
    points = example(seeds=(0,), datasets=("digits",))
    mine = results(points)
    other = results_of(mine.points.copy(), "B")
    other.points.loc[other.points.method == "ea_vit", column] = value
    found = compare(mine, other)
    assert {one.method for one in found.differences} == {
        "matformer",
        "slice_untrained",
        "fixed_uniform",
        "fixed_same_shape",
    }
    (reason,) = reasons_against(found)
    assert word in reason
    assert f"not comparable: {reason}: 5 points, such as ea_vit · digits · seed 0 at 20 %" in comparison_lines(found)


def test_another_code_may_be_what_is_compared():
    points = example(seeds=(0, 1), datasets=("digits",))
    other = results(points.assign(code="other"), "B")
    assert not compare(results(points), other).differences
    assert len(compare(results(points), other, across_code=True).differences) == 25


def test_absent_and_failed_points_are_reported():
    points = example(seeds=(0, 1), datasets=("digits",), methods=("ea_vit", "matformer"))
    fewer = points[~((points.method == "ea_vit") & (points.seed == 1))]
    fewer = spoil(fewer, (fewer.method == "matformer") & (fewer.budget == 0.2), "oom")
    found = compare(results(points), results(fewer, "B"))
    assert {reason: len(keys) for reason, keys in reasons_against(found).items()} == {
        "only in A": 5,
        "ok in A, oom in B": 2,
    }
    assert ("matformer", 0.2) not in {(one.method, one.budget) for one in found.differences}


def test_one_point_is_reported_by_its_images():
    rows = [row("a", "d", 0, 1.0, accuracy) for accuracy in (0.9, 0.8)]
    a, b = (pd.DataFrame([one]) for one in rows)
    cell = rows[0]["cell"]
    maps = [{(cell, 1.0): np.arange(500) < one["correct"]} for one in rows]
    (one,) = compare(results(a, bitmaps=maps[0]), results(b, bitmaps=maps[1])).differences
    assert one.interval.why == "1 seed"
    assert (one.images.kind, round(one.images.estimate, 3)) == ("paired images", -0.1)
    (bare,) = compare(results(a), results(b)).differences
    assert bare.images.kind == "counts of images"
    assert bare.images.low < one.images.low < one.images.high < bare.images.high


def test_comparisons_do_not_depend_on_the_order_of_rows():
    points = example(seeds=(0, 1))
    shuffled = points.sample(frac=1, random_state=0)
    assert comparison_lines(compare(results(points), results(moved(points, 0.01)))) == comparison_lines(
        compare(results(shuffled), results(moved(shuffled, 0.01)))
    )


def test_what_run_left_is_read(tmp_path):
    example(seeds=(0, 1)).to_csv(tmp_path / "points.csv", index=False)
    found = Results.read(tmp_path)
    assert len(compare(found, found).differences) == 25
