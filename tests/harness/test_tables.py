from __future__ import annotations

import re

import pandas as pd
import pytest
from example_points import example, row, spoil

from harness import tables


def line(text: str, method: str, section: str) -> list[str]:
    """Cells of a method's row in a section."""
    body = text.split(f"## {section}", 1)[1].split("\n## ", 1)[0]
    found = next(row for row in body.splitlines() if row.startswith(f"| `{method}`"))
    return [cell.strip() for cell in found.strip("|").split(" | ")]


def test_numbers_are_means_with_half_widths():
    points = example(seeds=(0, 1, 2), methods=("ea_vit",), datasets=("digits",))
    mean = points.loc[points.budget == 0.4, "accuracy"].mean()
    half = 4.302652729911275 * points.loc[points.budget == 0.4, "accuracy"].std(ddof=1) / 3**0.5
    text = tables.markdown(points, "One")
    assert line(text, "ea_vit", "digits")[2] == f"{100 * mean:.1f} (±{100 * half:.1f})"
    assert text.startswith("# One\n")
    assert "equal steps" in text
    assert "Mean over data sets" not in text


def test_one_seed_has_no_interval_and_no_bold():
    text = tables.markdown(example(seeds=(0,)), "One seed")
    assert "±" not in text.split("## digits")[1]
    assert "(n/a)" in text
    assert "**" not in text


def test_order_of_rows_does_not_matter():
    points = example(seeds=(0, 1, 2))
    points = spoil(points, (points.method == "matformer") & (points.seed == 2), "timeout", "over 60 minutes")
    expected = tables.markdown(points, "T", planned=30)
    for seed in range(3):
        shuffled = points.sample(frac=1, random_state=seed)
        assert tables.markdown(shuffled, "T", planned=30) == expected
    columns = points[sorted(points.columns)]
    assert tables.markdown(columns, "T", planned=30) == expected


def test_what_is_not_there_is_a_word_never_a_zero():
    points = example(seeds=(0, 1))
    digits = points.dataset == "digits"
    points = spoil(points, digits & (points.method == "matformer") & (points.budget == 0.2), "unreachable")
    points = spoil(points, digits & (points.method == "fixed_uniform"), "failed", "ValueError: no | such\nthing <b>")
    points.loc[digits & (points.method == "slice_untrained") & (points.budget == 0.2), "status"] = "suspicious"
    points = points[~((points.method == "ea_vit") & digits & (points.seed == 1))]
    text = tables.markdown(points, "T")
    assert line(text, "matformer", "digits")[1] == "unreachable"
    assert line(text, "fixed_uniform", "digits")[1:] == ["failed (2)"] * 5 + ["missing"]
    assert re.fullmatch(r"\d\d\.\d \(±\d+\.\d\), suspicious \(2\)", line(text, "slice_untrained", "digits")[1])
    assert re.fullmatch(r"\d\d\.\d \(n/a\), missing \(1\)", line(text, "ea_vit", "digits")[3])
    assert line(text, "fixed_uniform", "Mean over data sets")[1] == "1 of 2 sets"
    assert "17 of 20 cells complete; 2 suspicious; 2 failed; 1 missing." in text
    assert "no \\| such thing &lt;b>" in text
    assert "| 0.0" not in text


def test_denominator_knows_the_plan():
    text = tables.markdown(example(), "T", planned=24)
    assert "20 of 24 cells complete; 4 missing." in text
    assert "20 of 20 cells complete. Seeds: 0, 1." in tables.markdown(example(), "T")


def test_bold_only_where_every_paired_interval_is_above_zero():
    points = example(seeds=(0, 1, 2, 3, 4), methods=("ea_vit", "slice_untrained", "fixed_uniform"))
    text = tables.markdown(points, "T")
    assert line(text, "ea_vit", "digits")[1].startswith("**")
    assert "**" not in " ".join(line(text, "slice_untrained", "digits"))
    tied = points.copy()
    tied.loc[tied.method == "fixed_uniform", "accuracy"] = tied.loc[tied.method == "ea_vit", "accuracy"].to_numpy()
    assert "**" not in tables.markdown(tied, "T").split("## digits")[1]
    doubted = points.copy()
    doubted.loc[doubted.method == "ea_vit", "status"] = "suspicious"
    assert "**" not in tables.markdown(doubted, "T").split("## digits")[1]


def test_winning_needs_a_rival_and_two_seeds():
    assert tables.winners(example(seeds=(0, 1, 2), methods=("ea_vit",))) == set()
    assert tables.winners(example(seeds=(0,), methods=("ea_vit", "slice_untrained"))) == set()


def test_winning_is_by_pairs_not_by_means():
    """Seeds that shift both methods alike must not hide a steady gap; an unsteady gap must not count."""
    shift = {0: 0.0, 1: 0.1, 2: 0.2}
    rows = [row("a", "d", seed, 1.0, 0.64 + by) for seed, by in shift.items()]
    steady = [row("b", "d", seed, 1.0, 0.60 + by + 0.002 * seed) for seed, by in shift.items()]
    assert tables.winners(pd.DataFrame(rows + steady)) == {("a", "d", 1.0)}
    unsteady = [row("b", "d", seed, 1.0, 0.60 + by) for seed, by in zip(shift, (0.2, 0.0, 0.09), strict=True)]
    assert tables.winners(pd.DataFrame(rows + unsteady)) == set()


def test_cost_use_and_cells():
    points = example()
    points.loc[(points.method == "ea_vit") & (points.budget == 0.2), "macs"] = 2_000_001
    text = tables.markdown(points, "T")
    assert line(text, "ea_vit", "Cost of training")[1:] == ["digits", "4,100", "31.2", "2 of 2"]
    assert line(text, "ea_vit", "Use of budgets")[1:] == ["100.0", "98.0", "98.0", "98.0", "98.0", "4"]
    assert line(text, "matformer", "Use of budgets")[-1] == "0"
    for cell in points["cell"].unique():
        assert text.count(f"`{cell}`") == 1


def test_chance_lifts_the_area_of_unreachable_budgets():
    points = example(methods=("ea_vit",), datasets=("digits",))
    points = spoil(points, points.budget == 0.2, "unreachable")
    bare, lifted = (
        float(line(tables.markdown(points, "T", chance=chance), "ea_vit", "digits")[-1].split()[0])
        for chance in (None, {"digits": 0.5})
    )
    assert lifted > bare + 10


def test_nothing_yet():
    text = tables.markdown(example().iloc[:0], "T", planned=3)
    assert "No cell has a record yet: 3 planned" in text


def test_every_cell_failed():
    points = example(seeds=(0,))
    text = tables.markdown(spoil(points, pd.Series(True, index=points.index), "oom", "no memory"), "T")
    assert "0 of 10 cells complete; 10 oom" in text
    assert line(text, "ea_vit", "digits")[1] == "oom (1)"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_tables_are_rectangular(seeds):
    blocks = tables.markdown(example(seeds=seeds), "T").split("\n\n")
    for block in (b for b in blocks if b.startswith("|")):
        assert len({row.count(" | ") for row in block.splitlines()}) == 1
