from __future__ import annotations

import numpy as np
import pytest
from example_points import example, spoil
from sketches import drawn, of, shaped, skipped

from harness.reports.figures import chosen_shapes


def test_keys_are_read_as_they_are_written():
    found = chosen_shapes.parse_shape("e384-h6x3.0-m1536x2.10.0")
    assert found == chosen_shapes.Shape(384, (6, 6, 6, 0), (1536, 1536, 10, 0))
    for bad in ("", None, np.nan, "e3-h6", "e384-h6x2-m5", "e1-h.-m1", "e1-h1x9999-m1x9999", "rank=4,blocks=3"):
        assert chosen_shapes.parse_shape(bad) is None


def test_heat_maps_hold_the_mean_widths_as_shares_of_the_widest():
    points = shaped(example())
    figure = drawn(chosen_shapes.draw_shapes_by_budget, of(points))["shapes-ea_vit"].figure
    embed, heads, mlp, *second = (axis.images[0].get_array().data for axis in figure.axes)
    assert embed[:, 0] == pytest.approx([96 / 96, 76 / 96, 57 / 96, 38 / 96, 19 / 96])
    assert heads[-1] == pytest.approx([1, 1, 1, 1 / 6, 1 / 6, 1 / 6])
    assert mlp[0] == pytest.approx([1, 1, 1, 1, 1, 48 / 384])
    assert second[2][0][0] == pytest.approx(288 / 384)


def test_budgets_without_an_answer_are_no_white_cells():
    points = shaped(spoil(example(), (example().method == "ea_vit") & (example().budget == 0.2), "unreachable"))
    one = drawn(chosen_shapes.draw_shapes_by_budget, of(points))["shapes-ea_vit"]
    assert one.figure.axes[1].images[0].get_array().mask[-1].all()
    assert "–" in [text.get_text() for text in one.figure.axes[1].texts]
    assert "a dash: from none" in one.caption


def test_other_keys_have_no_shape_and_that_is_said():
    points = example().assign(key=lambda p: p["key"].where(p.method != "matformer", "stitch-3-4"))
    assert "no" in skipped(chosen_shapes.draw_shapes_by_budget, of(points))["shapes-matformer"]
    assert "fewer than 3" in skipped(chosen_shapes.draw_shapes_by_set, of(points))["shapes-by-set"]


def test_main_directions_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    several = [
        chosen_shapes.Shape(int(e), tuple(map(int, h)), tuple(map(int, m)))
        for e, h, m in zip(
            rng.integers(1, 97, 20), rng.integers(0, 7, (20, 4)), rng.integers(0, 385, (20, 4)), strict=True
        )
    ]
    found = chosen_shapes.main_directions(several)
    full = chosen_shapes.full_shape(several)
    table = np.array([s.widths for s in several]) / np.array(full.widths) * np.sqrt([1, *[1 / 4] * 8])
    values = np.sort(np.linalg.eigvalsh(np.cov(table.T)))[::-1]
    assert found.explained == pytest.approx(values[:2] / values.sum())
    assert found.places.var(axis=0, ddof=1) == pytest.approx(values[:2])
    assert chosen_shapes.main_directions(several[:1] * 3).explained == (0.0, 0.0)
    one_layer = [chosen_shapes.Shape(e, (1,), (1,)) for e in (1, 2, 3)]
    assert chosen_shapes.main_directions(one_layer).explained == pytest.approx((1.0, 0.0))
