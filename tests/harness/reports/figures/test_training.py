from __future__ import annotations

import pytest
from example_points import FULL, example
from sketches import FRONT, drawn, of, record, skipped, steps_of

from harness.reports.figures import training


def test_search_fronts_are_those_reported():
    axis = drawn(training.draw_search_fronts, of(example(), [record(front=FRONT)]))["search-fronts"].figure.axes[0]
    (line,) = steps_of(axis)
    assert line.get_xydata()[:2].tolist() == [[0.2 * FULL, 50], [0.9 * FULL, pytest.approx(90)]]


@pytest.mark.parametrize(
    "told", [None, 3, [], [["k", 0.2]], [["k", "a", 0.1]], [["k", 0.2, 7]], [["k", 0, 0.5]], {"a": 1}]
)
def test_reports_of_another_form_are_counted_and_not_drawn(told):
    made = of(example(), [record(front=told)])
    assert "1 reports under `front` cannot be read" in skipped(training.draw_search_fronts, made)["search-fronts"]
    both = of(example(), [record(front=told), record(seed=1, front=FRONT)])
    assert "1 reports under front cannot be read" in drawn(training.draw_search_fronts, both)["search-fronts"].caption


def test_progress_is_drawn_when_it_is_reported():
    key = "hypervolume_by_generation"
    made = of(example(), [record(**{key: [0.1, 0.3, 0.35]})])
    axis = drawn(training.draw_search_progress, made)["search-progress"].figure.axes[0]
    assert axis.lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.3], [3, 0.35]]
    assert (
        f"no method reports `{key}`"
        in skipped(training.draw_search_progress, of(example(), [record()]))["search-progress"]
    )
    assert "no records" in skipped(training.draw_search_progress, of(example()))["search-progress"]


def test_coverage_sums_sets_and_seeds_and_shows_shares_of_each_part():
    made = of(example(), [record(coverage=[[0, 4], [2, 2]]), record(seed=1, coverage=[[0, 4], [0, 4]])])
    axis = drawn(training.draw_coverage, made)["coverage"].figure.axes[0]
    assert axis.collections[0].get_array().reshape(2, 2).tolist() == [[0, 100], [25, 75]]
    for bad in ([[1, 2], [1]], [5, [1]], [[1, -1]], [[]], [], [["a"]], {"counts": [[1]]}, 5):
        assert "cannot be read" in skipped(training.draw_coverage, of(example(), [record(coverage=bad)]))["coverage"]
