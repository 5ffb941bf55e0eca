from __future__ import annotations

import csv
import io
import re

import pandas as pd
import pytest
from example_points import example, row, spoil

from harness import plan
from harness.reports import marking
from harness.reports.document import latex, markdown
from harness.reports.report_data import ReportData
from harness.reports.sanity import SanityCheck
from harness.reports.tables import tables
from harness.results.record import Spent
from tests.harness import small


def page(points: pd.DataFrame, **about: object) -> str:
    return to_markdown(ReportData("quick", points, **about))


def to_markdown(data: ReportData) -> str:
    return markdown.document(tables.page(data))


def to_latex(points: pd.DataFrame) -> str:
    return latex.document(tables.page(ReportData("quick", points)))


def line(text: str, method: str, section: str) -> list[str]:
    """Cells of a method's row in a section."""
    body = text.split(f"## {section}", 1)[1].split("\n## ", 1)[0]
    found = next(row for row in body.splitlines() if row.startswith(f"| `{method}`"))
    return [cell.strip() for cell in found.strip("|").split(" | ")]


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


def test_order_of_rows_does_not_matter():
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


def test_denominator_and_bounds_know_the_plan():
    points = example(methods=("ea_vit", "matformer"))
    text = page(points, planned=every(points, ("ea_vit", "digits", 2)))
    assert "8 of 9 cells complete; 1 missing. Seeds: 0, 1, 2." in text
    low, high = map(float, line(text, "ea_vit", "Bounds of what is absent")[1].split(" to "))
    mean = 100 * points[(points.method == "ea_vit") & (points.budget == 0.2)].groupby("dataset").accuracy.mean().mean()
    assert low < mean < high
    assert high - low == pytest.approx(100 / 3 / 2, abs=0.2)  # one of three seeds on one of two sets, 0 to 100
    assert "matformer" not in text.split("## Bounds of what is absent")[1].split("\n## ")[0]
    text = page(points)
    assert "8 of 8 cells complete. Seeds: 0, 1." in text
    assert "Bounds" not in text


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


def marks(rows: list[dict]) -> marking.Marks:
    return marking.marks(pd.DataFrame(rows))["d", 1.0]


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
    assert marking.overall(points)[0.2].best == "ea_vit"
    points = spoil(points, (points.method == "ea_vit") & (points.dataset == "digits"), "oom")
    assert marking.overall(points)[0.2].why == "fewer than two methods to compare"


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


def test_two_methods_that_spent_differently_are_both_unequal():
    points = example(seeds=(0,), datasets=("digits",), methods=("ea_vit", "matformer"))
    points.loc[points.method == "ea_vit", "train_macs"] *= 1.08
    assert set(marking.unequal(points, "equal_macs")) == {("ea_vit", "digits", 0), ("matformer", "digits", 0)}


# --- the rest of the page ---------------------------------------------------------------------------------------


def test_cost_use_and_cells():
    points = example()
    points.loc[(points.method == "ea_vit") & (points.budget == 0.2), "macs"] = 2_000_001
    text = page(points)
    assert line(text, "ea_vit", "Cost of training")[1:] == ["digits", "4,100", "31.2", "2 of 2"]
    assert line(text, "ea_vit", "Use of budgets")[1:] == ["100.0", "98.0", "98.0", "98.0", "98.0", "4"]
    assert line(text, "matformer", "Use of budgets")[-1] == "0"
    for cell in points["cell"].unique():
        assert text.count(f"`{cell}`") == 1


def test_break_even_sets_families_against_models_alone():
    points = example(methods=("ea_vit", "fixed_uniform"))
    points.loc[points.method == "ea_vit", "train_macs"] /= 2
    found = line(page(points), "ea_vit", "Break-even")
    assert found[1:3] == ["`fixed_uniform`", "from 3 sizes (3 to 3)"]  # 5 sizes cost 1, the family 0.5: more than 2.5
    assert "## Break-even" not in page(example(methods=("ea_vit", "matformer")))


def test_ranks_only_with_enough_sets():
    assert "None: 2 data sets; with fewer than 6" in page(example())
    sets = tuple(f"set{i}" for i in range(6))
    text = page(example(seeds=(0,), datasets=sets, methods=("ea_vit", "matformer", "slice_untrained")))
    assert line(text, "slice_untrained", "Mean ranks")[1] == "3.00"
    assert re.search(r"Friedman p +\| +0\.00\d", text)


def test_sanity_checks_are_shown_with_what_failed():
    check = SanityCheck("above chance", "failed", "ea_vit", "digits", 0, "c0ffee00", 0.2, "accuracy 0.1 <b>")
    text = page(example(methods=("ea_vit",)), checks=(check,))
    assert re.search(r"\| above chance +\| +0 of 1 \|", text)
    assert "- failed: above chance, `ea_vit` on digits, seed 0 (`c0ffee00`): accuracy 0.1 &lt;b>" in text


def test_reported_figures_stand_apart_with_their_source():
    text = page(
        example(datasets=("digits",), methods=("ea_vit",)),
        reported={"x.csv": "# title: Top-1\n# source: A paper, 2025\nmethod,c10\nTheirs,12.34\n"},
    )
    assert text.count("12.34") == 1
    section = text.split("## As reported, not measured here: Top-1")[1]
    assert "12.34" in section
    assert "A paper, 2025" in section
    with pytest.raises(ValueError, match="source"):
        page(
            example(datasets=("digits",), methods=("ea_vit",)),
            reported={"x.csv": "# title: Top-1\nmethod,c10\nTheirs,12.34\n"},
        )


def test_cards_of_the_methods_there():
    card = {"title": "Elastic", "paper": "P", "parameters": {"tau": [1.0, "code"]}, "ours": ["this"], "deviations": []}
    text = page(example(methods=("ea_vit",)), cards={"ea_vit": card, "unknown": card})
    assert "## Method card: ea_vit" in text
    assert "1.0 (code)" in text
    assert text.count("## Method card") == 1


def test_chance_lifts_the_area_of_unreachable_budgets():
    points = example(methods=("ea_vit",), datasets=("digits",))
    points = spoil(points, points.budget == 0.2, "unreachable")
    bare, lifted = (
        float(line(page(given), "ea_vit", "digits")[-1].split()[0]) for given in (points, points.assign(classes=2))
    )
    assert lifted > bare + 10


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


def test_latex_escapes_names_and_closes_what_it_opens():
    points = example(seeds=(0, 1), methods=("ea_vit",)).replace({"dataset": {"digits": r"50 % & #_{x}\ 漢 ü"}})
    text = to_latex(points)
    assert r"50 \% \& \#\_\{x\}\textbackslash{} [U+6F22] ü" in text
    assert r"\texttt{ea\_vit}" in text
    for name in set(re.findall(r"\\begin\{(\w+)\}", text)):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}")
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert re.search(r"[^\\]%(?!\n)", text) is None


def test_latex_marks_as_the_page_does():
    points = example(seeds=(0, 1, 2, 3, 4), methods=("ea_vit", "slice_untrained"), datasets=("digits",))
    assert re.search(r"\\texttt\{ea\\_vit\} & \\textbf\{9\d\.\d \(\$\\pm\$", to_latex(points))
    assert latex.prose("a **b** `c_d` 5 %") == r"a \textbf{b} \texttt{c\_d} 5 \%"


def test_records_tell_commit_phases_resumed_cells_and_what_a_method_is():
    suite = small.suite(seeds=[0, 1], methods=[{"name": "plain", "use": "a.b:fixed_uniform"}, {"use": "a.b:elastic"}])
    records, rows = {}, []
    for cell in plan.cells(suite, small.prints(suite)):
        record = small.record_of(cell)
        search = {"search": Spent(seconds=1, forward_macs=5e9)} if cell.method == "elastic" else {}
        about = {**record.environment, "commit": "0123456789abcdef+changes"}
        attempts = 2 if cell.seed == 0 and search else 1
        changed = {"ledger": {**record.ledger, **search}, "environment": about, "attempts": attempts}
        records[cell.id] = record.model_copy(update=changed)
        rows += [{**row(cell.method, "digits", cell.seed, b, 0.9), "cell": cell.id} for b in suite.budgets]
    text = page(pd.DataFrame(rows), records=records)
    assert "- Commit: 0123456789ab+changes." in text
    assert line(text, "elastic", "Cost of training")[3] == "31.2, 1 resumed"
    assert line(text, "elastic", "Cost by phase")[1:] == ["digits", "3,000", "3,000", "5"]
    assert line(text, "plain", "Cost by phase")[1:] == ["digits", "3,000", "3,000", "–"]
    assert line(text, "elastic", "Break-even")[1] == "`plain`"
