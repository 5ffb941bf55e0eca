from __future__ import annotations

import csv
import io
import re

import pandas as pd
import pytest
from example_points import example, spoil

from harness.reports.document import latex
from harness.reports.report_data import ReportData
from harness.reports.sanity import SanityCheck
from harness.reports.tables import tables
from tests.harness.reports.tables.shown_tables import line, page, to_markdown


def to_latex(points: pd.DataFrame) -> str:
    return latex.to_latex(tables.report_page(ReportData("quick", points)), "tex").report


def every(points: pd.DataFrame, *more: tuple[str, str, int]) -> frozenset[tuple[str, str, int]]:
    return frozenset(points[["method", "dataset", "seed"]].itertuples(index=False, name=None)) | set(more)


def test_numbers_are_means_with_half_widths():
    points = example(seeds=(0, 1, 2), methods=("ea_vit",), datasets=("digits",))
    mean = points.loc[points.budget == 0.4, "accuracy"].mean()
    half = 4.302652729911275 * points.loc[points.budget == 0.4, "accuracy"].std(ddof=1) / 3**0.5
    text = page(points, title="One")
    assert line(text, "ea_vit", "digits")[2] == f"{100 * mean:.1f} (±{100 * half:.1f})"
    assert text.startswith("# One\n")
    assert "equal steps" in text
    assert "Mean over data sets" not in text


def test_one_seed_has_no_interval_and_no_mark_and_says_why():
    text = page(example(seeds=(0,)))
    numbers = text.split("## digits")[1]
    assert "±" not in numbers
    assert "(n/a)" in numbers
    assert "**" not in numbers
    assert "≈" not in numbers
    assert "Nothing is marked at 20 %: ea_vit against fixed_same_shape: 1 seed" in numbers


def test_tables_do_not_depend_on_the_order_of_rows():
    points = example(seeds=(0, 1, 2), methods=("ea_vit", "matformer", "fixed_uniform"))
    points = spoil(points, (points.method == "matformer") & (points.seed == 2), "timeout", "over 60 minutes")
    about = {"planned": every(points, ("ea_vit", "digits", 7)), "regime": "equal_macs"}
    forms = (to_markdown, tables.table_csv)
    expected = [form(ReportData("quick", points, **about)) for form in forms]
    shuffled = points.sample(frac=1, random_state=0)[sorted(points.columns)]
    assert [form(ReportData("quick", shuffled, **about)) for form in forms] == expected


def test_what_is_not_there_is_a_word_never_a_zero():
    points = example(seeds=(0, 1))
    digits = points.dataset == "digits"
    points = spoil(points, digits & (points.method == "matformer") & (points.budget == 0.2), "unreachable")
    points = spoil(points, digits & (points.method == "fixed_uniform"), "failed", "ValueError: no | such\nthing <b>")
    points.loc[digits & (points.method == "slice_untrained") & (points.budget == 0.2), "status"] = "suspicious"
    points = points[~((points.method == "ea_vit") & digits & (points.seed == 1))]
    text = page(points)
    assert line(text, "matformer", "digits")[1] == "unreachable"
    assert line(text, "fixed_uniform", "digits")[1:] == ["failed (2)"] * 5 + ["missing"]
    assert re.fullmatch(r"\d\d\.\d \(±\d+\.\d\), suspicious \(2\)", line(text, "slice_untrained", "digits")[1])
    assert re.fullmatch(r"\d\d\.\d \(n/a\), missing \(1\)", line(text, "ea_vit", "digits")[3])
    assert line(text, "fixed_uniform", "Mean over data sets")[1] == "1 of 2 sets"
    assert "17 of 20 cells complete; 2 suspicious; 2 failed; 1 missing." in text
    assert "no \\| such thing &lt;b>" in text
    assert "| 0.0" not in text


def test_every_table_says_where_its_numbers_come_from():
    text = page(example(seeds=(0, 1, 2)), regime="equal_macs")
    count = text.count("\n| ---")
    assert count > 6
    line_of = r"<sub>Suite `quick`, commit unknown; .*3 seeds; interval: .*why quick --method METHOD --budget BUDGET.*`"
    assert len(re.findall(line_of, text)) == count


# --- marks ------------------------------------------------------------------------------------------------------


def test_bold_only_where_every_paired_interval_is_above_zero():
    points = example(seeds=range(5), methods=("ea_vit", "slice_untrained", "fixed_uniform"))
    text = page(points)
    assert line(text, "ea_vit", "digits")[1].startswith("**")
    assert "**" not in " ".join(line(text, "slice_untrained", "digits"))
    assert line(text, "ea_vit", "Mean over data sets")[1].startswith("**")
    tied = points.copy()
    tied.loc[tied.method == "fixed_uniform", "accuracy"] = tied.loc[tied.method == "ea_vit", "accuracy"].to_numpy()
    text = page(tied)
    assert "**" not in text.split("## digits")[1]
    assert line(text, "ea_vit", "digits")[1].endswith("≈")
    assert line(text, "fixed_uniform", "digits")[1].endswith("≈")
    assert "≈" not in line(text, "slice_untrained", "digits")[1]
    doubted = points.copy()
    doubted.loc[doubted.method == "ea_vit", "status"] = "suspicious"
    text = page(doubted)
    assert "≈" not in line(text, "ea_vit", "digits")[1]
    assert "**" not in line(text, "ea_vit", "Mean over data sets")[1]


FOUR = ("ea_vit", "matformer", "slice_untrained", "fixed_uniform")


def test_unequal_budgets_are_said_and_never_marked_best():
    points = example(seeds=(0, 1, 2), datasets=("digits",), methods=FOUR)
    points.loc[(points.method == "ea_vit") & (points.seed == 1), "train_macs"] *= 1.06
    points.loc[points.method == "matformer", "train_macs"] *= 1.04
    text = page(points, regime="equal_macs")
    assert "unequal budget (1)" in line(text, "ea_vit", "digits")[1]
    assert "unequal" not in line(text, "matformer", "digits")[1]
    assert "- unequal budget, `ea_vit` on digits, seed 1: +6.0 % MACs" in text
    assert not {"**", "≈"} & set(re.findall(r"\*\*|≈", line(text, "ea_vit", "digits")[1]))
    steps = page(points, regime="equal_steps")
    assert line(steps, "ea_vit", "digits")[1].strip("*≈ ") != line(steps, "ea_vit", "digits")[1]
    assert "unequal budget" not in steps


# --- the rest of the page ---------------------------------------------------------------------------------------


def test_sanity_checks_are_shown_with_what_failed():
    check = SanityCheck("above chance", "failed", "ea_vit", "digits", 0, "c0ffee00", 0.2, "accuracy 0.1 <b>")
    text = page(example(methods=("ea_vit",)), checks=(check,))
    assert re.search(r"\| above chance +\| +0 of 1 \|", text)
    assert "- failed: above chance, `ea_vit` on digits, seed 0 (`c0ffee00`): accuracy 0.1 &lt;b>" in text


def test_the_area_of_a_method_that_lacks_small_budgets_is_of_those_it_reaches_and_says_so():
    points = example(methods=("ea_vit", "matformer", "slice_untrained"), datasets=("digits",))
    points = spoil(points, (points.method == "matformer") & (points.budget < 0.6), "unreachable")
    text = page(points)
    assert line(text, "matformer", "digits")[-1].endswith(", from 60 %")
    assert float(line(text, "matformer", "digits")[-1].split()[0]) > 93
    order = re.findall(r"^\| `(\w+)`", text, re.MULTILINE)[:3]
    assert order == ["ea_vit", "matformer", "slice_untrained"], "not last for what it does not reach"
    nowhere = spoil(points, points.method == "matformer", "unreachable")
    assert line(page(nowhere), "matformer", "digits")[-1] == "unreachable"


def test_nothing_yet():
    text = page(example().iloc[:0], planned=frozenset({("a", "b", seed) for seed in range(3)}))
    assert "No cell has a record yet: 3 planned" in text


def test_every_cell_failed():
    points = example(seeds=(0,), methods=("ea_vit", "matformer"))
    points = spoil(points, pd.Series(True, index=points.index), "oom", "no memory")
    text = page(points)
    assert "**No cell succeeded**: there is no number to report." in text
    assert "0 of 4 cells complete; 4 oom" in text
    assert line(text, "ea_vit", "digits")[1] == "oom (1)"
    assert to_latex(points)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_tables_are_rectangular(seeds):
    blocks = page(example(seeds=seeds, methods=("ea_vit", "fixed_uniform"))).split("\n\n")
    for block in (b for b in blocks if b.startswith("|")):
        assert len({row.count(" | ") for row in block.splitlines()}) == 1


# --- other forms ------------------------------------------------------------------------------------------------


def test_csv_leads_from_each_number_to_its_cells():
    points = example(seeds=(0, 1, 2))
    rows = list(csv.DictReader(io.StringIO(tables.table_csv(ReportData("quick", points)))))
    assert len(rows) == 5 * 2 * 5
    first = next(row for row in rows if (row["method"], row["dataset"], row["budget"]) == ("ea_vit", "digits", "0.2"))
    mine = points[(points.method == "ea_vit") & (points.dataset == "digits") & (points.budget == 0.2)]
    assert float(first["mean"]) == pytest.approx(mine.accuracy.mean(), abs=1e-6)
    assert first["cells"] == " ".join(f"{seed}:{cell}" for seed, cell in zip(mine.seed, mine.cell, strict=True))
    assert first["interval"] == "t over seeds"
