"""What sets methods apart from the first one: every number against a direct computation; nothing out of nothing."""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from example_points import BUDGETS, FULL, example, spoil
from scipy import stats as distributions

from harness.reports import paired_differences
from harness.reports.document import latex, markdown
from harness.reports.document.blocks import Page, Section
from harness.reports.page import page
from harness.reports.report_data import ReportData
from harness.reports.tables import differences, tables
from harness.statistics import curves, pairs
from tests.harness.made_pages import QUICK

METHODS = ("ea_vit", "matformer", "slice_untrained")
SIX = tuple(f"set{at}" for at in range(6))
TITLES = ("Against", "Set by set against", "Better, same, worse than", "Fronts against")


def data_of(points: pd.DataFrame, **about: object) -> ReportData:
    return ReportData("quick", points, reference="ea_vit", **about)


def made(points: pd.DataFrame, **about: object) -> dict[str, Section]:
    found = differences.comparison_sections(data_of(points, **about))
    return {one.title.removesuffix(" ea_vit"): one for one in found}


def row(section: Section, *starts: str) -> list[str]:
    texts = [[f"{place.text}{' ≠' * (place.look == 'apart')}" for place in line] for line in section.table.rows]
    return next(line[len(starts) :] for line in texts if line[: len(starts)] == list(starts))


def by_seed(points: pd.DataFrame, method: str, dataset: str, budget: float) -> np.ndarray:
    here = points[(points.method == method) & (points.dataset == dataset) & (points.budget == budget)]
    return here.sort_values("seed")["accuracy"].to_numpy()


def gap(points: pd.DataFrame, method: str, dataset: str, budget: float) -> np.ndarray:
    return by_seed(points, method, dataset, budget) - by_seed(points, "ea_vit", dataset, budget)


def shown(mean: float, half: float, apart: bool) -> str:
    sign = "−" if mean < 0 else "+"
    return f"{sign}{abs(100 * mean):.1f} (±{100 * half:.1f}){' ≠' if apart else ''}"


# --- accuracy -----------------------------------------------------------------------------------------------------


def test_over_sets_is_the_mean_of_paired_differences_with_welchs_interval():
    points = example(seeds=(0, 1, 2), methods=METHODS)
    found = made(points)["Against"]
    for method in METHODS[1:]:
        for at, budget in enumerate(BUDGETS):
            values = [gap(points, method, dataset, budget) for dataset in ("digits", "mnist5k")]
            parts = [np.var(one, ddof=1) / 3 / 4 for one in values]
            freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
            mean, half = np.mean(values), distributions.t.ppf(0.975, freedom) * sum(parts) ** 0.5
            assert row(found, method)[at] == shown(mean, half, abs(mean) > half)
    assert row(found, "slice_untrained")[-1] == "5 of 5"


def test_what_leaves_out_zero_is_counted_beside_what_chance_gives():
    points = example(seeds=(0, 1, 2), methods=METHODS)
    found = made(points)["Against"]
    at = [row(found, method)[:-2] for method in METHODS[1:]]
    for column, budget in enumerate(BUDGETS):
        count = sum("≠" in line[column] for line in at)
        (line,) = [point for point in found.points if point.startswith(f"At {100 * budget:g} %:")]
        assert line.startswith(f"At {100 * budget:g} %: {count} of 2 leave out 0")
        assert line.endswith("by chance alone 0.1 would.")
    total = sum("≠" in entry for line in at for entry in line)
    assert total >= 5
    assert found.points[-1].startswith(f"At all budgets together: {total} of 10 leave out 0")
    assert found.points[-1].endswith("by chance alone 0.5 would.")


def test_set_by_set_is_t_over_seeds_and_flips_only_of_six_seeds():
    points = example(seeds=range(6), methods=METHODS)
    found = made(points)["Set by set against"]
    values = gap(points, "matformer", "digits", 0.4)
    low, high = distributions.ttest_1samp(values, 0).confidence_interval(0.95)
    p = distributions.permutation_test((values,), np.mean, permutation_type="samples").pvalue
    text = f"{shown(values.mean(), (high - low) / 2, False)}, p {p:.3f}"
    assert row(found, "matformer", "digits")[1] == text + (" ≠" if low > 0 or high < 0 else "")
    assert found.points == ()
    few = made(example(seeds=range(5), methods=METHODS))["Set by set against"]
    assert not re.search(r"p \d", " ".join(row(few, "matformer", "digits")))
    assert few.points[0].startswith("No p-value: with fewer than 6 seeds")


def test_of_few_sets_only_wins_are_counted():
    found = made(example(seeds=(0, 1, 2), methods=METHODS))
    assert "Over sets like these, against" not in found
    scores = found["Better, same, worse than"]
    assert row(scores, "slice_untrained")[:2] == ["0/0/2", "0/0/2"]
    assert "n/a (2 sets" in scores.points[0]


def test_of_six_sets_there_are_odds_and_an_interval_over_sets():
    points = example(seeds=(0, 1), datasets=SIX, methods=METHODS)
    found = made(points)
    means = [gap(points, "matformer", name, 0.6).mean() for name in SIX]
    low, high = distributions.ttest_1samp(means, 0).confidence_interval(0.95)
    like = row(found["Over sets like these, against"], "matformer")[2]
    assert like == shown(np.mean(means), (high - low) / 2, low > 0 or high < 0)
    odds = pairs.signed_rank(means, np.random.default_rng(1))
    score, told = row(found["Better, same, worse than"], "matformer")[2].split(" (")
    assert score == "/".join(map(str, pairs.win_tie_loss(means)))
    shares = [float(part) for part in told.rstrip(")").split("/")]
    assert shares == pytest.approx([odds.a, odds.same, odds.b], abs=0.03)
    assert found["Better, same, worse than"].points == ()


def test_one_seed_and_ties_give_no_interval_and_no_p_value():
    lone = made(example(seeds=(0,), methods=METHODS))
    text = " ".join(row(lone["Against"], "matformer") + row(lone["Set by set against"], "matformer", "digits"))
    assert "±" not in text and "≠" not in text and "p " not in text
    assert row(lone["Against"], "matformer")[-1] == "n/a"
    assert lone["Against"].points == ("No interval to count: 1 seed.",)
    assert row(lone["Fronts against"], "matformer")[1].endswith("(n/a)")
    assert "`matformer`, MACs saved: n/a: 1 seed." in lone["Fronts against"].points
    tied = made(example(seeds=range(6), methods=METHODS).assign(accuracy=0.5))
    assert row(tied["Against"], "matformer")[:2] == ["+0.0 (n/a)", "+0.0 (n/a)"]
    assert row(tied["Set by set against"], "matformer", "digits")[0] == "+0.0 (n/a), p n/a"
    assert "no spread" in tied["Against"].points[0]
    assert made(example(methods=("ea_vit",))) == {}


def test_one_set_needs_no_table_set_by_set():
    assert "Set by set against" not in made(example(seeds=(0, 1), datasets=("digits",), methods=METHODS))
    many = made(example(seeds=range(6), datasets=("digits",), methods=METHODS))
    assert "p 0.031" in row(many["Set by set against"], "slice_untrained", "digits")[0]


def test_what_is_absent_suspicious_or_unequal_is_said_and_what_is_unequal_is_not_counted():
    points = example(seeds=(0, 1, 2), methods=METHODS)
    holed = spoil(points, (points.method == "matformer") & (points.dataset == "digits"), "oom")
    found = made(holed)
    assert row(found["Against"], "matformer") == ["1 of 2 sets"] * 6 + ["n/a"]
    assert row(found["Set by set against"], "matformer", "digits") == ["–"] * 6
    assert "At 20 %: 1 of 1 leave out 0" in found["Against"].points[0]
    assert row(found["Fronts against"], "matformer")[0] == "1 of 2"
    assert row(found["Fronts against"], "matformer")[-1] == "n/a"
    odd = points.copy()
    odd.loc[(odd.method == "slice_untrained") & (odd.budget == 0.2), "status"] = "suspicious"
    odd.loc[(odd.method == "ea_vit") & (odd.budget == 0.4), "status"] = "suspicious"
    found = made(odd)["Against"]
    assert row(found, "slice_untrained")[0].endswith(", suspicious ≠")
    assert "suspicious" not in row(found, "slice_untrained")[1]
    assert found.points[0] == "ea_vit itself at 40 %: suspicious."
    dear = points.copy()
    dear.loc[dear.method == "slice_untrained", "train_macs"] *= 2
    found = made(dear, regime="equal_macs")["Against"]
    assert row(found, "slice_untrained")[0].endswith(", unequal budget")
    assert row(found, "slice_untrained")[-1] == "n/a"
    assert " of 1 leave out 0" in found.points[0]


# --- curves and images ----------------------------------------------------------------------------------------------


def test_a_front_that_is_lifted_and_shifted_saves_and_gains_just_that():
    points = example(seeds=(0, 1, 2), methods=("ea_vit",))
    cheap = points.assign(method="cheap", macs=points["macs"] // 2)
    lifted = points.assign(method="lifted", accuracy=points["accuracy"] + 0.01)
    apart = points.assign(method="apart", accuracy=points["accuracy"] / 10)
    found = made(pd.concat([points, cheap, lifted, apart], ignore_index=True))["Fronts against"]
    assert row(found, "cheap")[1] == "+50.0 % (n/a)"
    assert row(found, "lifted")[2] == "+1.0 (n/a)"
    assert row(found, "ea_vit")[1:3] == ["–", "–"]
    assert row(found, "apart")[1] == "n/a"
    assert "`apart`, MACs saved: n/a: the curves share no accuracy on digits, mnist5k." in found.points


def test_fronts_have_intervals_and_hypervolumes_of_every_seed():
    points = example(seeds=(0, 1, 2), methods=METHODS)
    found = made(points)["Fronts against"]
    told = re.findall(r"[+−][\d.]+", row(found, "matformer")[1])
    middle, low, high = (float(part.replace("−", "-")) for part in told)
    assert low < middle < high
    volumes = []
    for (_, _), here in points[points.method == "matformer"].groupby(["dataset", "seed"]):
        curve = curves.steps(here["macs"].tolist(), here["accuracy"].tolist())
        ends = [*curve.macs[1:], FULL]
        volumes.append(sum((b - a) * y for a, b, y in zip(curve.macs, ends, curve.accuracy, strict=True)) / FULL)
    assert row(found, "matformer")[-1].startswith(f"{100 * np.mean(volumes):.1f} (±")


def bitmaps(points: pd.DataFrame, shift: dict[str, int]) -> dict[tuple[str, float], np.ndarray]:
    """Of 100 images the first 50 are right, for some methods a few more."""
    places = points[["cell", "budget", "method"]].itertuples(index=False, name=None)
    return {(cell, budget): np.arange(100) < 50 + shift.get(method, 0) for cell, budget, method in places}


def test_same_images_by_mcnemar_and_holm_by_hand():
    points = example(seeds=(0, 1, 2), methods=METHODS, datasets=("digits",))
    bits = bitmaps(points, {"matformer": 20, "slice_untrained": -8})
    first = points[(points.method == "matformer") & (points.budget == 0.2)].sort_values("seed")["cell"].tolist()
    bits[first[0], 0.2] = np.arange(100) < 50  # not told apart
    del bits[first[1], 0.2]
    found = made(points, bitmaps=bits)["Same images as"]
    assert row(found, "matformer", "digits") == ["+1 −0 of 2", *["+3 −0 of 3"] * 4]
    # 8 images against 0: p = 2/2^8 = 0.0078, after Holm over 15 tests 0.117
    assert row(found, "slice_untrained", "digits") == ["+0 −0 of 3"] * 5
    fewer = bitmaps(points, {"slice_untrained": -10})  # 2/2^10 times 15: 0.029
    assert row(made(points, bitmaps=fewer)["Same images as"], "slice_untrained", "digits") == ["+0 −3 of 3"] * 5


def test_without_bitmaps_there_are_no_images():
    assert tuple(made(example(seeds=(0, 1), methods=METHODS))) == TITLES


# --- the forms ------------------------------------------------------------------------------------------------------


def test_differences_do_not_depend_on_the_order_of_rows():
    points = example(seeds=range(6), datasets=SIX, methods=METHODS)
    points = spoil(points, (points.method == "matformer") & (points.dataset == "set1") & (points.seed == 2), "oom")
    mixed = points.sample(frac=1, random_state=1)
    bits = bitmaps(points, {"matformer": 20})
    turned = dict(reversed(bits.items()))
    assert differences.comparison_sections(data_of(mixed, bitmaps=turned)) == differences.comparison_sections(
        data_of(points, bitmaps=bits)
    )
    assert paired_differences.differences_csv(data_of(mixed)) == paired_differences.differences_csv(data_of(points))


def test_the_first_method_is_the_reference_or_else_the_first_by_name():
    points = example(seeds=(0, 1), methods=METHODS)
    assert ReportData("quick", points).first == "ea_vit"
    other = ReportData("quick", points, reference="slice_untrained")
    assert {one.title for one in differences.comparison_sections(other)} >= {"Against slice_untrained"}


def test_csv_has_a_row_for_every_interval():
    points = example(seeds=(0, 1, 2), methods=METHODS)
    rows = list(csv.DictReader(io.StringIO(paired_differences.differences_csv(data_of(points)))))
    assert len(rows) == 2 * 6 * (2 + 2)
    counted = [line for line in rows if line["scope"] == "these" and line["budget"] != "area"]
    section = made(points)["Against"]
    assert section.points[-1].startswith(f"At all budgets together: {sum(int(r['apart']) for r in counted)} of 10")
    one = next(
        r for r in rows if (r["method"], r["scope"], r["dataset"], r["budget"]) == ("matformer", "one", "digits", "0.4")
    )
    assert float(one["estimate"]) == pytest.approx(gap(points, "matformer", "digits", 0.4).mean(), abs=1e-6)
    assert (one["first"], one["pairs"], one["fair"]) == ("ea_vit", "3", "1")
    (like,) = [r for r in rows if (r["method"], r["scope"], r["budget"]) == ("matformer", "like", "0.4")]
    assert like["estimate"] and not like["low"] and like["why"].startswith("2 sets; with fewer than 6"), "as the table"


def test_tables_have_the_sections_after_the_ranks_and_the_page_has_them_too():
    points = example(seeds=(0, 1, 2), methods=METHODS)
    found = tables.report_page(data_of(points))
    titles = [one.title for one in found.sections]
    assert titles[titles.index("Mean ranks") + 1 :][:4] == [f"{title} ea_vit" for title in TITLES]
    assert all(after.group == "comparison" for after in found.sections if after.title.endswith(" ea_vit"))
    compared = [one for one in found.sections if one.group == "comparison"]
    text = page.render_page(data_of(points), QUICK, found).decode().replace("\u00a0", " ")
    for section in compared:
        assert section.title in text
        for line in (line for block in section.table.blocks for line in block.rows):
            assert all(place.text in text for place in line)
    assert " ≠</td>" in text
    for before, after in pairwise(text.index(f"<summary>{one.title}</summary>") for one in compared):
        assert before < after


def test_marks_in_markdown_and_latex():
    section = made(example(seeds=(0, 1, 2), methods=METHODS))["Against"]
    alone = Page("x", (), (section,))
    assert re.search(r"\| −\d+\.\d \(±\d+\.\d\) ≠ \|", markdown.to_markdown(alone))
    assert re.search(r"\$-\$\d+\.\d \(\$\\pm\$\d+\.\d\) \$\\neq\$ &", latex.to_latex(alone, "tex").report)
    assert "[U+" not in latex.to_latex(alone, "tex").report
