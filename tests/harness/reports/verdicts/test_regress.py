"""Fault 28: equal, noise, worse, missing, new, other counter: exit 0, 0, 1, 1, 0 with a note, 2."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from example_points import example, spoil

from harness.reports.verdicts.regress import regress, regress_exit_code, regress_lines
from tests.harness.kept import results_of


def results(points: pd.DataFrame, bitmaps=None, counter: int = 1, code: str = "c"):
    return results_of(points.assign(counter=counter, data="d", code=code), bitmaps=bitmaps)


def shaken(points: pd.DataFrame, spread: float, seed: int, by: float = 0.0) -> pd.DataFrame:
    """Another training of the same: each accuracy moves by noise, and by ``by``."""
    accuracy = points["accuracy"] + by + np.random.default_rng(seed).normal(0, spread, len(points))
    return points.assign(correct=(500 * accuracy).round().clip(0, 500)).assign(accuracy=lambda p: p["correct"] / 500)


def code(baseline: pd.DataFrame, now: pd.DataFrame, **more) -> int:
    return regress_exit_code(regress(results(baseline), results(now), **more))


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_equal_is_no_worse(seeds):
    points = example(seeds=seeds)
    verdicts = regress(results(points), results(points))
    assert regress_exit_code(verdicts) == 0
    assert {one.word for one in verdicts} == {"same"}


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3, 4)])
def test_noise_is_no_worse(seeds):
    """Of 20 runs that differ by noise alone, 50 verdicts each, two at most may be called worse."""
    points = example(seeds=seeds)
    first, *others = (shaken(points, 0.005, seed) for seed in range(21))
    assert sum(code(first, other) for other in others) <= 2


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2, 3, 4)])
def test_one_method_worse_on_one_set_is_seen(seeds):
    points = example(seeds=seeds)
    fallen = points.assign(
        accuracy=points.accuracy.where((points.method != "ea_vit") | (points.dataset != "digits"), 0.5)
    )
    fallen["correct"] = fallen.accuracy * 500
    verdicts = regress(results(points), results(shaken(fallen, 0.003, 0)), margin=0.01)
    assert regress_exit_code(verdicts) == 1
    assert {one.where.split(" at ")[0] for one in verdicts if one.word == "worse"} == {"ea_vit · digits"}
    assert regress_lines(verdicts)[0].startswith("worse")


def test_a_margin_allows_a_loss():
    points = example(seeds=(0, 1, 2, 3, 4), datasets=("digits",), methods=("ea_vit",))
    now = shaken(points, 0.0005, 0, by=-0.01)
    assert code(points, now) == 1
    assert code(points, now, margin=0.02) == 0
    with pytest.raises(ValueError, match="0.01"):
        regress(results(points), results(now), margin=2)


def test_one_seed_needs_its_images():
    """A loss of 12 of 500 images is noise by counts; that none was won in return is not."""
    points = example(seeds=(0,), datasets=("digits",), methods=("ea_vit",))
    points = points[points.budget == 1.0]
    before = int(points["correct"].iloc[0])
    now = points.assign(correct=before - 12, accuracy=(before - 12) / 500)
    assert code(points, now) == 0
    key = (points["cell"].iloc[0], 1.0)
    maps = [{key: np.arange(500) < right} for right in (before, before - 12)]
    assert regress_exit_code(regress(results(points, maps[0]), results(now, maps[1]))) == 1


def test_two_seeds_that_do_not_agree_are_noise():
    points = example(seeds=(0, 1), datasets=("digits",), methods=("ea_vit",))
    up = points["accuracy"] + points["seed"].map({0: -0.2, 1: 0.02})
    assert code(points, points.assign(accuracy=up, correct=500 * up)) == 0


def test_missing_is_reported_and_fails():
    points = example(seeds=(0, 1, 2))
    fewer = points[~((points.method == "ea_vit") & (points.seed == 1))]
    verdicts = regress(results(points), results(fewer))
    assert regress_exit_code(verdicts) == 1
    assert sum(one.word == "missing" for one in verdicts) == 2 * 5
    failed = spoil(points, (points.method == "ea_vit") & (points.seed == 1), "oom", "no memory")
    verdicts = regress(results(points), results(failed))
    assert regress_exit_code(verdicts) == 1
    assert verdicts[0].why == "ok in the baseline, oom now: no memory"


def test_new_is_a_note():
    points = example(seeds=(0, 1, 2))
    verdicts = regress(results(points[points.method != "ea_vit"]), results(points))
    assert regress_exit_code(verdicts) == 0
    assert any(line.startswith("new") and "ea_vit" in line for line in regress_lines(verdicts))


def test_what_failed_before_cannot_be_missed():
    points = example(seeds=(0, 1, 2))
    failed = spoil(points, points.method == "ea_vit", "oom")
    assert code(failed, failed) == 0
    assert code(failed, points) == 0


def test_another_counter_is_no_ground_to_judge_on():
    points = example(seeds=(0, 1, 2))
    verdicts = regress(results(points), results(points, counter=2))
    assert regress_exit_code(verdicts) == 2
    assert "other counter version (1 and 2)" in verdicts[0].why


def test_another_code_is_what_is_tested():
    points = example(seeds=(0, 1, 2))
    assert regress_exit_code(regress(results(points), results(points, code="other"))) == 0


def test_a_number_that_is_suspicious_now_fails():
    points = example(seeds=(0, 1, 2))
    now = points.copy()
    now.loc[0, ["status", "reason"]] = ["suspicious", "below chance"]
    assert code(points, now) == 1


def test_a_baseline_with_no_common_row_is_no_success():
    points = example(seeds=(0,))
    ours, theirs = points[points.method == "ea_vit"], points[points.method == "matformer"]
    verdicts = regress(results(theirs), results(ours))
    assert regress_exit_code(verdicts) == 2
    assert "the two have no point in common" in regress_lines(verdicts)[0]
    assert code(points.iloc[:0], points) == 2


def test_nothing_at_all_is_no_success():
    points = example(seeds=(0,))
    assert code(points.iloc[:0], points.iloc[:0]) == 2
