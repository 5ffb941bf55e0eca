from __future__ import annotations

import numpy as np
import pytest
from example_points import example, spoil
from sketches import drawn, of, skipped

from harness.reports.figures import ranks, style
from harness.statistics import frames, intervals


def test_areas_and_ranks_are_those_of_the_statistics():
    points = example()
    figure = drawn(ranks.draw_areas_and_ranks, of(points))["summary"].figure
    left, right = figure.axes
    order = [label.get_text() for label in left.get_yticklabels()]
    table = frames.curve_areas(points)
    for at, method in enumerate(order):
        here = table[table.method == method]
        groups = [group.tolist() for _, group in here.groupby("dataset")["area"]]
        (mark,) = [x for line in left.lines for x, y in line.get_xydata() if y == at and line.get_markersize() == 4.5]
        assert mark == pytest.approx(100 * np.mean([np.mean(group) for group in groups]))
        found = intervals.these_sets(groups)
        bars = [line.get_xdata() for line in left.lines if line.get_linewidth() == 1.3 and line.get_ydata()[0] == at]
        assert bars[0] == pytest.approx([100 * found.low, 100 * found.high])
    drawn_ranks = [line.get_xdata()[0] for line in right.lines if line.get_markersize() == 4.5]
    assert drawn_ranks == sorted(drawn_ranks)


def test_a_method_with_a_hole_has_no_rank_and_the_caption_says_so():
    points = spoil(example(), (example().method == "matformer") & (example().dataset == "digits"), "oom")
    assert (
        "Without a rank, for a budget is not reached or has no number: matformer"
        in drawn(ranks.draw_areas_and_ranks, of(points))["summary"].caption
    )


def test_critical_differences_need_six_sets_and_three_methods():
    assert "fewer than 6" in skipped(ranks.draw_critical_differences, of(example()))["critical-difference"]
    many = [f"set{i}" for i in range(7)]
    two = example(datasets=many, methods=("ea_vit", "matformer"))
    assert "needs 3" in skipped(ranks.draw_critical_differences, of(two))["critical-difference"]
    figure = drawn(ranks.draw_critical_differences, of(example(datasets=many)))["critical-difference"].figure
    said = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(name in said for name in ("ea_vit", "slice_untrained", "CD = "))


def test_the_diagram_joins_what_it_is_given(tmp_path):
    with style.figure_style():
        page = style.sheet(style.TWO, 2)
        ranks.draw_diagram(page.flat[0], {"a": 1.2, "b": 1.9, "c": 2.9}, [("a", "b")], 0.8)
    (bar,) = [line for line in page.flat[0].lines if line.get_linewidth() == 2.6]
    low, high = bar.get_xdata()
    assert low < 1.2 < 1.9 < high < 2.9
