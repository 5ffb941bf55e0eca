from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from example_points import example, spoil
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sketches import of

from harness.reports.figures import axes, pareto, style


def test_png_and_svg_are_drawn():
    files = pareto.pareto_files(of(example()))
    assert list(files) == ["pareto.png", "pareto.svg"]
    pixels = np.asarray(Image.open(io.BytesIO(files["pareto.png"])).convert("RGB")).reshape(-1, 3)
    colours = {tuple(colour) for colour in np.unique(pixels, axis=0).tolist()}
    for look in style.method_looks([f"m{i}" for i in range(5)]).values():
        rgb = tuple(round(255 * part) for part in matplotlib.colors.to_rgb(look["color"]))
        assert rgb in colours
    assert files["pareto.svg"].startswith(b"<?xml")


def test_same_points_same_bytes_whatever_their_order_or_the_settings():
    first = pareto.pareto_files(of(example()))
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True}):
        second = pareto.pareto_files(of(example().sample(frac=1, random_state=1)))
    assert second == first
    assert matplotlib.rcParams["svg.hashsalt"] != "eavit-bench"


def test_no_date_and_no_version_inside():
    files = pareto.pareto_files(of(example(datasets=("digits",))))
    assert not Image.open(io.BytesIO(files["pareto.png"])).info.get("Software")
    assert b"dc:date" not in files["pareto.svg"]


def test_footnotes_say_what_the_curves_do_not():
    points = example()
    points = spoil(points, (points.method == "matformer") & (points.budget == 0.2), "unreachable")
    points = spoil(points, (points.method == "fixed_uniform") & (points.dataset == "digits"), "oom")
    points.loc[(points.method == "ea_vit") & (points.budget == 0.4), "status"] = "suspicious"
    text = "\n".join(pareto._footnotes(of(points), []))
    assert "unreachable: matformer (digits at 20 %; mnist5k at 20 %)" in text
    assert "oom: fixed_uniform (digits at 20 %, 40 %, 60 %, 80 %, 100 %)" in text
    assert "Hollow" in text
    assert "spread is unknown" in pareto._footnotes(of(example(seeds=(0,))), [])[0]


def test_methods_that_did_not_run_are_named_in_one_footnote_and_not_in_the_legend():
    points = example()
    points = spoil(points, points.method == "matformer", "missing")
    points = spoil(points, (points.method == "fixed_uniform") & (points.dataset == "digits"), "missing")
    notes = pareto._footnotes(of(points), [])
    assert "Not run: matformer." in notes
    assert [note for note in notes if note.startswith("missing: ")] == [
        "missing: fixed_uniform (digits at 20 %, 40 %, 60 %, 80 %, 100 %)"
    ]
    names = [text.get_text() for text in pareto._figure(of(points)).legends[0].get_texts()]
    assert names == sorted({*points["method"]} - {"matformer"})


def test_of_many_methods_the_first_eight_have_colours_and_the_others_are_grey():
    one = example(methods=("ea_vit",), seeds=(0,))
    points = pd.concat([one.assign(method=f"m{number:02}", accuracy=number / 20) for number in range(14)])
    data = of(points)
    assert data.shown_first == [f"m{number:02}" for number in range(6, 14)]
    assert replace(data, leading=("m03", "m09")).shown_first == ["m03", *(f"m{number:02}" for number in range(7, 14))]
    figure = pareto._figure(data)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == data.shown_first
    notes = "\n".join(text.get_text() for text in figure.texts)
    assert "Grey, of smaller mean accuracy (unreachable counts as 0): m00, m01, m02, m03, m04, m05." in notes


def test_mean_panel_needs_every_set():
    points = example(seeds=(0,), methods=("ea_vit",))
    points = spoil(points, (points.dataset == "digits") & (points.budget == 0.2), "unreachable")
    found = pareto._mean_points(points, 2)
    assert sorted(found["budget"]) == [0.4, 0.6, 0.8, 1.0]
    both = points[points.budget == 0.4]
    assert found.loc[found.budget == 0.4, "accuracy"].item() == pytest.approx(both["accuracy"].mean())


@pytest.mark.parametrize("accuracy", [0.0, 0.1, 0.5, 0.999, 1.0])
def test_any_accuracy_can_be_drawn(accuracy):
    points = example(seeds=(0,), datasets=("digits",), methods=("ea_vit",))
    points["accuracy"] = accuracy
    figure = pareto._figure(of(points))
    axis = figure.axes[0]
    low, high = axis.get_ylim()
    assert low <= 100 * accuracy <= high + 1e-9
    figure.draw_without_rendering()
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels
    assert ("100" in labels) == (accuracy == 1.0)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.01, 20))
def test_the_accuracy_scale_rises_and_can_be_inverted(one, other, least):
    heights = axes.accuracy_height([one, other], least)
    assert axes.accuracy_at_height(heights, least) == pytest.approx([one, other], abs=1e-6)
    if other - one > 1e-6:
        assert heights[0] < heights[1]
    assert axes.accuracy_height(100, least) - axes.accuracy_height(100 - least, least) == pytest.approx(1)


def test_many_methods_sets_and_budgets():
    points = pd.concat([example(seeds=(0,), datasets=("a", "b", "c", "d"))] * 2, ignore_index=True)
    half = len(points) // 2
    points.loc[: half - 1, "method"] = points["method"][:half] + "_other_longer_name"
    assert len(pareto.pareto_files(of(points))["pareto.png"]) > 10_000


def test_nothing_measured_no_points_and_unknown_macs_still_give_a_figure():
    points = example(seeds=(0,))
    nothing = spoil(points, pd.Series(True, index=points.index), "failed")
    for frame in (nothing, points.iloc[:0], points.assign(full_macs=np.nan)):
        assert pareto.pareto_files(of(frame))["pareto.png"]


def test_labels_keep_their_distance():
    assert axes.spaced([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]) == [0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0]
    assert style.macs_text(17_563_828_224) == "18 G"
    assert style.macs_text(2_340_000) == "2.3 M"


def test_reporting_does_not_import_torch():
    modules = "harness.statistics.frames, harness.reports.tables.tables, harness.reports.figures.pareto"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
