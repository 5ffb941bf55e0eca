"""Every method against the suite's first one: by budget, set by set, as whole curves, on the same images.

Every interval stands at its own level; how many leave out 0, and how many would by chance, is counted below them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.reports import paired_differences
from harness.reports.document.blocks import Entry, Row, Section, method_entry, table
from harness.reports.document.formatting import accuracy_text, budget_text, difference_text, signed_points
from harness.reports.paired_differences import PairedDifference, leaves_out_zero
from harness.reports.report_data import Column, ReportData
from harness.statistics import advantage, curves, frames, images, intervals, pairs
from harness.statistics.images import McNemar
from harness.statistics.intervals import LEVEL, Interval
from harness.statistics.pairs import FEWEST

ZONE = f"{100 * pairs.ZONE:g} points"
Differences = Mapping[tuple[str, Column], PairedDifference]


def comparison_sections(data: ReportData) -> list[Section]:
    if not paired_differences.others(data):
        return []
    differences = paired_differences.against_first(data)
    sections = (
        over_sets_section(data, differences),
        set_by_set_section(data, differences),
        like_sets_section(data, differences),
        score_section(data, differences),
        front_section(data),
        image_section(data),
    )
    return [section for section in sections if section is not None]


def _rows(data: ReportData, differences: Differences, entry: Callable[[PairedDifference], Entry | str]) -> list[Row]:
    columns = paired_differences.columns(data)
    return [
        [method_entry(method), *(entry(differences[method, column]) for column in columns)]
        for method in paired_differences.others(data)
    ]


def _head(data: ReportData, *first: str) -> list[str]:
    return [*first, *("area" if column is None else budget_text(column) for column in paired_differences.columns(data))]


# --- accuracy, over sets ----------------------------------------------------------------------------------------


def over_sets_section(data: ReportData, differences: Differences) -> Section:
    rows = _rows(data, differences, lambda one: _over_sets(data, one, one.these_sets()))
    for row, method in zip(rows, paired_differences.others(data), strict=True):
        known = _intervals(data, [differences[method, budget] for budget in data.budgets])
        row.append(f"{sum(map(leaves_out_zero, known))} of {len(known)}" if known else "n/a")
    text = (
        f"{data.score.heading} minus that of {data.first}, in points, paired by seed: above 0 the method is better. "
        "Mean of the means of these sets; in brackets half the 95 % interval over seeds within sets, each at its own "
        "level. ≠: it leaves out 0; the last column counts these, of the intervals at budgets. Unequal budgets are not "
        "counted. Area: over the budgets that both reach."
    )
    source = data.source("these sets, Satterthwaite t, 95 %, of paired differences")
    shown = table([*_head(data, "method"), "≠"], rows, source)
    return Section(f"Against {data.first}", text, shown, tuple(_counts(data, differences)))


def _over_sets(data: ReportData, one: PairedDifference, interval: Interval) -> Entry:
    sets, every = len(one.by_set), len(data.datasets)
    text = difference_text(interval) if sets == every else f"{sets} of {every} sets"
    apart = one.fair and sets == every and leaves_out_zero(interval)
    return Entry(", ".join([text, *one.warnings]), "apart" if apart else "plain")


def _intervals(data: ReportData, differences: Sequence[PairedDifference]) -> list[Interval]:
    """Those there are over all sets, of comparisons on equal terms."""
    every = [one.these_sets() for one in differences if one.fair and len(one.by_set) == len(data.datasets)]
    return [interval for interval in every if interval.given]


def _counts(data: ReportData, differences: Differences) -> list[str]:
    """Number of intervals by budget that leave out 0, and the number expected by chance without any effect."""
    by_column = {
        column: _intervals(data, [one for one in differences.values() if one.column == column])
        for column in paired_differences.columns(data)
    }
    warnings = {budget: paired_differences.warnings(data, data.first, budget) for budget in data.budgets}
    lines = [f"{data.first} itself at {budget_text(b)}: {', '.join(words)}." for b, words in warnings.items() if words]
    if not any(by_column.values()):
        why = sorted({interval.why for one in differences.values() if (interval := one.these_sets()).why})
        return [*lines, f"No interval to count: {'; '.join(why) or 'unequal budgets'}."]
    for column, known in by_column.items():
        lines.append(f"{'Of the areas' if column is None else f'At {budget_text(column)}'}: {_count(known)}")
    at_budgets = [one for column, known in by_column.items() if column is not None for one in known]
    return [*lines, f"At all budgets together: {_count(at_budgets)}"]


def _count(known: Sequence[Interval]) -> str:
    if not known:
        return "no interval to count."
    up, down = (sum(leaves_out_zero(i) and (i.estimate or 0) * sign > 0 for i in known) for sign in (1, -1))
    chance = round((1 - LEVEL) * len(known), 2)
    return f"{up + down} of {len(known)} leave out 0 ({up} above, {down} below); by chance alone {chance:g} would."


# --- accuracy, set by set ---------------------------------------------------------------------------------------


def set_by_set_section(data: ReportData, differences: Differences) -> Section | None:
    """Sign flips only from as many seeds on as can tell anything."""
    tested = any(len(values) >= FEWEST for one in differences.values() for values in one.by_set.values())
    if len(data.datasets) < 2 and not tested:
        return None
    columns = paired_differences.columns(data)
    rows: list[Row] = [
        [method_entry(method), dataset, *(_on_set(differences[method, column], dataset) for column in columns)]
        for method in paired_differences.others(data)
        for dataset in data.datasets
    ]
    text = (
        f"As above, on each set alone: Student's t over the paired differences of its seeds. p: two-sided sign-flip "
        f"test, only from {FEWEST} seeds on."
    )
    few = f"No p-value: with fewer than {FEWEST} seeds no sign-flip test can reach 0.05 (2 of 2^seeds patterns)."
    source = data.source("t over seeds, 95 %, of paired differences")
    shown = table(_head(data, "method", "data set"), rows, source, left=2)
    return Section(f"Set by set against {data.first}", text, shown, () if tested else (few,))


def _on_set(one: PairedDifference, dataset: str) -> Entry:
    values = one.by_set.get(dataset)
    if values is None:
        return Entry("–")
    interval, text = intervals.over_seeds(values), ""
    if len(values) >= FEWEST:
        p = pairs.sign_flip(values, np.random.default_rng(0)).p
        text = f", p {'n/a' if p is None else format(p, '.3f')}"
    return Entry(f"{difference_text(interval)}{text}", "apart" if one.fair and leaves_out_zero(interval) else "plain")


# --- sets like these --------------------------------------------------------------------------------------------


def like_sets_section(data: ReportData, differences: Differences) -> Section | None:
    if len(data.datasets) < FEWEST:
        return None
    rows = _rows(data, differences, lambda one: _over_sets(data, one, one.like_sets()))
    text = "As above, over sets like these: the interval is Student's t over the means of the sets."
    source = data.source("sets like these, t over set means, 95 %, of paired differences")
    return Section(f"Over sets like these, against {data.first}", text, table(_head(data, "method"), rows, source))


def score_section(data: ReportData, differences: Differences) -> Section:
    """Wins, ties and losses are counts; odds of them need sets enough."""
    why = paired_differences.too_few(len(data.datasets))
    text = (
        f"Sets on which the method's mean is better by more than {ZONE}, the same within them, and worse; in brackets "
        "the probability of each of the three on another such set (Bayesian signed-rank test)."
    )
    points = (f"Over sets like these, intervals and probabilities: n/a ({why}).",) if why else ()
    source = data.source("none; a posterior where there is one")
    shown = table(_head(data, "method"), _rows(data, differences, _score), source)
    return Section(f"Better, same, worse than {data.first}", text, shown, points)


def _score(one: PairedDifference) -> str:
    if not one.by_set:
        return "–"
    score, odds = "/".join(map(str, pairs.win_tie_loss(one.means))), one.posterior()
    if odds.a is None or odds.same is None or odds.b is None:
        return score
    return f"{score} ({odds.a:.2f}/{odds.same:.2f}/{odds.b:.2f})"


# --- whole curves -----------------------------------------------------------------------------------------------

Bounds = Mapping[str, curves.Bounds]


def front_section(data: ReportData) -> Section | None:
    """Comparison of methods with a whole curve: MACs at equal accuracy, accuracy at equal MACs, hypervolume."""
    bounds = {dataset: ends for dataset in data.datasets if (ends := data.bounds[dataset]) is not None}
    if len(bounds) < len(data.datasets) or not data.fronts:
        return None
    rows: list[Row] = []
    reasons: list[str] = []
    for method in (data.first, *paired_differences.others(data)):
        row, why = _front_row(data, method, bounds)
        rows.append(row)
        reasons += [f"`{method}`, {one}" for one in why]
    score = data.score.title
    text = (
        f"Step fronts of {score} over MACs, averaged over seeds, against those of {data.first}: share of its MACs "
        f"saved at equal {score}, points of {score} gained at equal MACs (mean over log2 MACs), both means over sets "
        f"with 95 % intervals; ≠: it leaves out 0. Hypervolume: share of the rectangle from chance to 100 % {score} "
        "and from 0 to the largest budget that the front fills, in %, in brackets half the interval over seeds."
    )
    source = data.source("whole seeds bootstrapped within these sets; hypervolume: Satterthwaite t, 95 %")
    head = ["method", "sets", "MACs saved", f"{score} gained", "hypervolume"]
    return Section(f"Fronts against {data.first}", text, table(head, rows, source), tuple(reasons))


def _front_row(data: ReportData, method: str, bounds: Bounds) -> tuple[Row, list[str]]:
    """The row of a method, and why an interval is missing."""
    fronts, first = data.fronts.get(method, {}), data.fronts.get(data.first, {})
    volume, every = _hypervolume(data, fronts, bounds), len(data.datasets)
    if method == data.first:
        return [method_entry(method), f"{len(fronts)} of {every}", "–", "–", volume], []
    both = {dataset: seeds for dataset, seeds in fronts.items() if dataset in first}
    ratio = advantage.macs_ratio(both, first, np.random.default_rng(0), data.chance)
    gain = advantage.accuracy_gained(both, first, bounds, np.random.default_rng(0), data.chance)
    gained = Entry(difference_text(gain), "apart" if leaves_out_zero(gain) else "plain")
    named = {"MACs saved": ratio, f"{data.score.title} gained": gain}
    why = [f"{what}: n/a: {one.why}." for what, one in named.items() if not one.given]
    return [method_entry(method), f"{len(both)} of {every}", _saved(ratio), gained, volume], why


def _saved(ratio: Interval) -> Entry:
    """The share turns the ends round: more MACs are fewer saved."""
    if ratio.estimate is None:
        return Entry("n/a")
    share = f"{signed_points(advantage.saved(ratio.estimate))} %"
    if ratio.low is None or ratio.high is None:
        return Entry(f"{share} (n/a)")
    low, high = (signed_points(advantage.saved(end)) for end in (ratio.high, ratio.low))
    return Entry(f"{share} ({low} to {high})", "apart" if leaves_out_zero(ratio) else "plain")


def _hypervolume(data: ReportData, fronts: advantage.Fronts, bounds: Bounds) -> str:
    if len(fronts) < len(data.datasets):
        return "n/a"
    groups = []
    for dataset, seeds in sorted(fronts.items()):
        chance, most = data.chance.get(dataset, 0.0), bounds[dataset][1]
        whole = most * (1 - chance)
        groups.append([curves.hypervolume(curve, most, chance) / whole for _, curve in sorted(seeds.items())])
    interval = intervals.these_sets(groups)
    return accuracy_text(interval)


# --- single images ----------------------------------------------------------------------------------------------

Outcomes = list[int]  # one a seed: 1 the method, -1 the first one, 0 neither


def image_section(data: ReportData) -> Section | None:
    """Only where it is known which images a choice got right."""
    if not data.bitmaps:
        return None
    columns = zip(*(data.full[key] for key in (*frames.CELL, "cell")), strict=True)
    cells = {(str(method), str(dataset), int(seed)): str(cell) for method, dataset, seed, cell in columns}
    rows: list[Row] = []
    for method in paired_differences.others(data):
        outcomes = _image_outcomes(data, method, cells)
        for dataset in data.datasets:
            seeds = [outcomes.get((dataset, budget), []) for budget in data.budgets]
            rows.append([method_entry(method), dataset, *map(_outcome_text, seeds)])
    text = (
        f"Exact McNemar test on the bitmaps of each seed: seeds in which the method gets significantly more (+) and "
        f"fewer (−) images right than {data.first}, p below {1 - LEVEL:.2f} after Holm over all tests of the "
        "method, of the seeds tested. It holds for these images and these trained weights, not for other seeds."
    )
    shown = table(["method", "data set", *map(budget_text, data.budgets)], rows, data.source(), left=2)
    return Section(f"Same images as {data.first}", text, shown)


def _image_outcomes(
    data: ReportData, method: str, cells: Mapping[tuple[str, str, int], str]
) -> dict[tuple[str, float], Outcomes]:
    tests: dict[tuple[str, int, float], McNemar] = {}
    for dataset, seed in sorted({(d, s) for m, d, s in cells if m == method}):
        cell, first = cells[method, dataset, seed], cells.get((data.first, dataset, seed), "")
        for budget in data.budgets:
            left, right = data.bitmaps.get((cell, budget)), data.bitmaps.get((first, budget))
            if left is not None and right is not None and len(left) == len(right):
                tests[dataset, seed, budget] = images.mcnemar(left, right)
    known = {key: test.p for key, test in tests.items() if test.p is not None}
    adjusted = dict(zip(known, pairs.holm(list(known.values())), strict=True))
    outcomes: dict[tuple[str, float], Outcomes] = {}
    for key, test in tests.items():
        apart = adjusted.get(key, 1.0) < 1 - LEVEL
        outcomes.setdefault((key[0], key[2]), []).append(apart * (1 if test.only_a > test.only_b else -1))
    return outcomes


def _outcome_text(seeds: Outcomes) -> str:
    return f"+{seeds.count(1)} −{seeds.count(-1)} of {len(seeds)}" if seeds else "–"
