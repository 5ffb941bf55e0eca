from __future__ import annotations

import numpy as np
import pytest
from example_points import example, spoil
from sketches import drawn, of, record, skipped

from harness.reports.figures import effects
from harness.reports.paired_differences import difference


def test_bars_are_paired_differences_to_the_reference():
    points = example()
    figure = drawn(effects.draw_ablation, of(points, reference="matformer"))["ablation"].figure
    axis = next(axis for axis in figure.axes if axis.get_title(loc="left").startswith("at 40"))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["ea_vit", "fixed_same_shape", "fixed_uniform", "slice_untrained"]
    for at, (name, bar) in enumerate(zip(names, axis.patches, strict=True)):
        found = difference(of(points), name, "matformer", 0.4).these_sets()
        assert bar.get_width() == pytest.approx(100 * found.estimate)
        whisker = next(line for line in axis.lines if line.get_linewidth() == 0.8 and line.get_ydata()[0] == at)
        low, high = axis.get_xlim()
        assert whisker.get_xdata() == pytest.approx([max(100 * found.low, low), min(100 * found.high, high)])


def test_no_bar_at_zero_for_what_is_not_there():
    points = spoil(example(), (example().method == "matformer") & (example().budget == 0.2), "unreachable")
    one = drawn(effects.draw_ablation, of(points))["ablation"]
    axis = next(axis for axis in one.figure.axes if axis.get_title(loc="left").startswith("at 20"))
    assert len(axis.patches) == 3
    assert "n/a" in [text.get_text().strip() for text in axis.texts]
    assert "No bar: no seed of both has a number there (matformer)" in one.caption


def test_one_method_has_nothing_to_be_compared_with():
    assert skipped(effects.draw_ablation, of(example(methods=("ea_vit",))))["ablation"] == "1 method"


def test_break_even_lines_and_rings():
    points = example(methods=("ea_vit", "fixed_uniform"))
    points.loc[points.method == "ea_vit", "train_macs"] = 2.5e12
    points.loc[points.method == "fixed_uniform", "train_macs"] = 5e12  # of five sizes
    records = [record("fixed_uniform", use="eavit.methods:fixed_uniform")]
    one = drawn(effects.draw_cost, of(points, records))["break-even"]
    axis = one.figure.axes[0]
    flat, slope = (line for line in axis.lines if len(line.get_xdata()) > 1)
    assert set(flat.get_ydata()) == {2.5e12}
    assert slope.get_ydata()[:3] == pytest.approx([1e12, 2e12, 3e12])
    rings = [line.get_xydata().tolist() for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert rings == [[[3, 2.5e12]]]
    assert "ea_vit from 3 sizes" in one.caption


def test_cost_without_models_trained_alone():
    made = of(example(methods=("ea_vit", "matformer")))
    assert {"break-even"} == {*skipped(effects.draw_cost, made)}
    axis = drawn(effects.draw_cost, made)["cost"].figure.axes[0]
    assert {bar.get_width() for bar in axis.patches} == {4.1e12}
    assert "ledger" in skipped(effects.draw_cost, of(example().assign(train_macs=np.nan)))["cost"]
