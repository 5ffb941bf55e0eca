"""Marks of a table: the best number needs a paired interval; unequal compute is never marked."""

from __future__ import annotations

import pandas as pd
from example_points import example, row, spoil

from harness.reports import marking


def marks(rows: list[dict]) -> marking.Marks:
    return marking.marks_by_set(pd.DataFrame(rows))["d", 1.0]


def test_winning_needs_a_rival_and_two_seeds():
    assert marks([row("a", "d", seed, 1.0, 0.5 + 0.1 * seed) for seed in range(3)]).why.startswith("fewer than two")
    single = marks([row("a", "d", 0, 1.0, 0.9), row("b", "d", 0, 1.0, 0.5)])
    assert (single.best, single.ties, single.why) == (None, frozenset(), "a against b: 1 seed")
    apart = marks(
        [row("a", "d", seed, 1.0, 0.9) for seed in (0, 1)] + [row("b", "d", seed, 1.0, 0.5) for seed in (2, 3)]
    )
    assert apart.why == "a against b: no seed in common"


def test_winning_is_by_pairs_not_by_means():
    """Seeds that shift both methods alike must not hide a steady gap; an unsteady gap must not count."""
    shift = {0: 0.0, 1: 0.1, 2: 0.2}
    rows = [row("a", "d", seed, 1.0, 0.64 + by) for seed, by in shift.items()]
    steady = [row("b", "d", seed, 1.0, 0.60 + by + 0.002 * seed) for seed, by in shift.items()]
    assert marks(rows + steady).best == "a"
    unsteady = [row("b", "d", seed, 1.0, 0.60 + by) for seed, by in zip(shift, (0.2, 0.0, 0.09), strict=True)]
    assert marks(rows + unsteady).ties == {"a", "b"}


def test_equal_gaps_give_no_interval_and_equal_numbers_are_a_tie():
    rows = [row("a", "d", seed, 1.0, 0.8) for seed in (0, 1)]
    assert "no spread" in marks(rows + [row("b", "d", seed, 1.0, 0.7) for seed in (0, 1)]).why
    assert marks(rows + [row("b", "d", seed, 1.0, 0.8) for seed in (0, 1)]).ties == {"a", "b"}


def test_means_over_sets_are_marked_over_all_sets_alone():
    points = example(seeds=(0, 1, 2), methods=("ea_vit", "slice_untrained"))
    assert marking.marks_over_sets(points)[0.2].best == "ea_vit"
    points = spoil(points, (points.method == "ea_vit") & (points.dataset == "digits"), "oom")
    assert marking.marks_over_sets(points)[0.2].why == "fewer than two methods to compare"


def test_two_methods_that_spent_differently_are_both_unequal():
    points = example(seeds=(0,), datasets=("digits",), methods=("ea_vit", "matformer"))
    points.loc[points.method == "ea_vit", "train_macs"] *= 1.08
    assert set(marking.unequal_budgets(points, "equal_macs")) == {("ea_vit", "digits", 0), ("matformer", "digits", 0)}
