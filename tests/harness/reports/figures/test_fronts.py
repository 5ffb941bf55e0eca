from __future__ import annotations

import numpy as np
import pytest
from example_points import FULL, example, spoil
from matplotlib.colors import to_rgba
from sketches import drawn, of, record, skipped, steps_of, texts

from harness.reports.figures import fronts
from harness.statistics import curves, frames


def brute(runs, at, seeds):
    """What at least so many seeds reach at ``at``, straight from the runs."""
    best = [max((a for macs, a in run if macs <= at), default=None) for run in runs]
    known = sorted((value for value in best if value is not None), reverse=True)
    return known[seeds - 1] if len(known) >= seeds else None


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
def test_median_and_band_are_the_attainment_surfaces(seeds):
    rng = np.random.default_rng(seeds)
    points = example(seeds=range(seeds), methods=("ea_vit",), datasets=("digits",))
    points["macs"] = (points["macs"] * rng.uniform(0.5, 1, len(points))).round()
    points["accuracy"] = rng.integers(300, 500, len(points)) / 500
    axis = drawn(fronts.draw_fronts, of(points))["fronts-digits"].figure.axes[0]
    runs = [list(zip(run["macs"], run["accuracy"], strict=True)) for _, run in points.groupby("seed")]
    (line,) = steps_of(axis)
    for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert y == pytest.approx(100 * brute(runs, x, -(-seeds // 2)))
    (band,) = axis.collections
    corners = band.get_paths()[0].vertices
    for x in sorted({*corners[:, 0]} - {axis.get_xlim()[1]}):
        here = corners[corners[:, 0] == x][:, 1]
        for wanted in (brute(runs, x, seeds), brute(runs, x, 1)):
            assert np.isclose(here, 100 * wanted).any()
    assert {macs for run in runs for macs, _ in run if brute(runs, macs, seeds)} >= {*corners[1:-1, 0]} - {
        axis.get_xlim()[1]
    }
    assert corners[:, 0].min() == pytest.approx(max(min(m for m, _ in run) for run in runs))


def test_every_measured_run_is_a_dot_and_nothing_else_is():
    points = spoil(example(), (example().method == "matformer") & (example().budget < 0.5), "unreachable")
    points = spoil(points, (points.method == "ea_vit") & (points.seed == 1), "oom")
    one = drawn(fronts.draw_fronts, of(points))["fronts-digits"]
    axis = one.figure.axes[0]
    shown = sorted((x, y) for line in axis.lines if line.get_linestyle() == "None" for x, y in line.get_xydata())
    values = frames.accuracies(points[points.dataset == "digits"])
    wanted = sorted((x, 100 * y) for x, y in zip(values.macs, values.accuracy, strict=True))
    assert np.array(shown) == pytest.approx(np.array(wanted))
    assert min(y for _, y in shown) > 10
    assert "unreachable: matformer 4 of 10" in one.caption
    assert "oom: ea_vit 5 of 10" in one.caption
    assert "unreachable: matformer 4 of 10" in texts(one.figure).replace("\n", " ")


def test_one_seed_has_no_band_and_says_so():
    one = drawn(fronts.draw_fronts, of(example(seeds=(0,))))["fronts-digits"]
    assert not one.figure.axes[0].collections
    assert "no band" in one.caption


def test_suspicious_runs_are_hollow():
    points = example(seeds=(0,), datasets=("digits",), methods=("ea_vit",))
    points.loc[points.budget == 0.4, "status"] = "suspicious"
    axis = drawn(fronts.draw_fronts, of(points))["fronts-digits"].figure.axes[0]
    hollow = [line for line in axis.lines if to_rgba(line.get_markerfacecolor())[:3] == (1, 1, 1)]
    (line,) = [line for line in hollow if line.get_linestyle() == "None"]
    assert line.get_xdata() == points.loc[points.budget == 0.4, "macs"].to_numpy()


def test_the_mean_is_over_all_sets_seed_by_seed():
    points = example(methods=("ea_vit", "matformer"))
    points = spoil(points, (points.method == "matformer") & (points.dataset == "digits"), "failed")
    made = of(points)
    found = fronts.mean_curves(made, made.fronts["ea_vit"])
    assert len(found) == 2
    for seed, curve in enumerate(found):
        here = points[(points.method == "ea_vit") & (points.seed == seed)]
        both = [curves.steps(g.macs.tolist(), g.accuracy.tolist()) for _, g in here.groupby("dataset")]
        for at, value in zip(curve.macs, curve.accuracy, strict=True):
            assert value == pytest.approx(sum(one.at(at) for one in both) / 2)
    assert fronts.mean_curves(made, made.fronts["matformer"]) == []


def test_the_mean_starts_where_every_set_has_a_model():
    points = spoil(example(), (example().dataset == "digits") & (example().budget < 0.5), "unreachable")
    made = of(points)
    assert all(c.macs[0] > 0.5 * FULL for c in fronts.mean_curves(made, made.fronts["ea_vit"]))


def test_many_sets_take_several_sheets():
    points = example(seeds=(0,), datasets=[f"set{i:02}" for i in range(13)], methods=("ea_vit",))
    assert {"fronts-1", "fronts-2", "fronts-mean", "fronts-set12"} <= {*drawn(fronts.draw_fronts, of(points))}


def test_latency_is_drawn_as_measured():
    points = example(methods=("ea_vit",))
    points["latency_ms"] = np.arange(len(points)) / 10 + 1
    axis = drawn(fronts.draw_latency, of(points))["latency"].figure.axes[0]
    dots, line = (one for one in axis.lines if len(one.get_xdata()) > 2)
    assert sorted(dots.get_ydata()) == points["latency_ms"].tolist()
    assert line.get_ydata().tolist() == points.groupby("budget")["latency_ms"].median().tolist()
    assert "no latency" in skipped(fronts.draw_latency, of(points.assign(latency_ms=np.nan)))["latency"]


def test_the_noise_of_latencies_is_printed():
    points = example(methods=("ea_vit",)).assign(latency_ms=1.0)
    assert "Noise: not recorded" in drawn(fronts.draw_latency, of(points))["latency"].caption
    made = record()
    made = made.model_copy(update={"environment": {**made.environment, "latency_spread": 0.034}})
    assert "is 3.4% wide" in drawn(fronts.draw_latency, of(points, [made]))["latency"].caption
