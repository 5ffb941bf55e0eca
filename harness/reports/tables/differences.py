"""Differences of every method to the suite's first one: by budget, set by set, as whole curves, on the same images.

Every interval stands at its own level; how many leave out 0, and how many would by chance, is counted below them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.reports import paired_differences
from harness.reports.document import formatting
from harness.reports.document.blocks import Entry, Row, Section, Table, name, table
from harness.reports.document.formatting import share
from harness.reports.paired_differences import PairedDifference, leaves_out_zero
from harness.reports.report_data import Column, ReportData
from harness.statistics import advantage, curves, frames, images, intervals, pairs
from harness.statistics.images import McNemar
from harness.statistics.intervals import LEVEL, Interval
from harness.statistics.pairs import FEWEST

ZONE = f"{100 * pairs.ZONE:g} points"
Differences = Mapping[tuple[str, Column], PairedDifference]


def sections(data: ReportData) -> list[Section]:
    if not paired_differences.others(data):
        return []
    found = paired_differences.against_first(data)
    made = (over_sets(data, found), set_by_set(data, found), like_sets(data, found), scores(data, found))
    return [one for one in (*made, whole_curves(data), same_images(data)) if one is not None]


def _section(title: str, data: ReportData, text: str, shown: Table, points: Sequence[str] = ()) -> Section:
    return Section(f"{title} {data.first}", text, shown, tuple(points))


def _head(data: ReportData, *first: str) -> list[str]:
    return [*first, *("area" if column is None else share(column) for column in paired_differences.columns(data))]


# --- accuracy, over sets ----------------------------------------------------------------------------------------


def over_sets(data: ReportData, found: Differences) -> Section:
    rows: list[Row] = []
    for method in paired_differences.others(data):
        mine = [found[method, column] for column in paired_differences.columns(data)]
        rows.append([name(method), *(_over(one, one.these_sets(), data) for one in mine), _counted(data, mine[:-1])])
    text = (
        f"Accuracy minus that of {data.first}, in points, paired by seed: above 0 the method is better. Mean of the "
        "means of these sets; in brackets half the 95 % interval over seeds within sets, each at its own level. ≠: it "
        "leaves out 0; the last column counts these, of the intervals at budgets. Unequal budgets are not counted."
    )
    source = data.source("these sets, Satterthwaite t, 95 %, of paired differences")
    return _section("Against", data, text, table([*_head(data, "method"), "≠"], rows, source), _chance(data, found))


def _over(one: PairedDifference, over: Interval, data: ReportData) -> Entry:
    there, every = len(one.by_set), len(data.datasets)
    text = formatting.difference(over) if there == every else f"{there} of {every} sets"
    apart = one.fair and there == every and leaves_out_zero(over)
    return Entry(", ".join([text, *one.warnings]), "apart" if apart else "plain")


def _counted(data: ReportData, row: Sequence[PairedDifference]) -> str:
    given = _given(data, row)
    return f"{sum(map(leaves_out_zero, given))} of {len(given)}" if given else "n/a"


def _given(data: ReportData, row: Sequence[PairedDifference]) -> list[Interval]:
    """The intervals there are over all sets, of comparisons on equal terms."""
    every = [one.these_sets() for one in row if one.fair and len(one.by_set) == len(data.datasets)]
    return [interval for interval in every if interval.given]


def _chance(data: ReportData, every: Differences) -> list[str]:
    """Number of intervals by budget that leave out 0, and the number expected by chance without any effect."""
    at: dict[Column, list[PairedDifference]] = {}
    for one in every.values():
        at.setdefault(one.column, []).append(one)
    parts = {column: _given(data, row) for column, row in at.items()}
    lines = [(f"At {share(c)}" if c is not None else "Of the areas", given) for c, given in parts.items()]
    words = {c: paired_differences.warnings(data, data.first, c) for c in data.budgets}
    warned = [f"{data.first} itself at {share(c)}: {', '.join(found)}." for c, found in words.items() if found]
    if not any(parts.values()):
        why = sorted({over.why for one in every.values() if (over := one.these_sets()).why})
        return [*warned, f"No interval to count: {'; '.join(why) or 'unequal budgets'}."]
    lines.append(("At all budgets together", [one for c, given in parts.items() if c is not None for one in given]))
    return [*warned, *(f"{where}: {_tally(given)}" for where, given in lines)]


def _tally(given: Sequence[Interval]) -> str:
    if not given:
        return "no interval to count."
    up, down = (sum(leaves_out_zero(i) and (i.estimate or 0) * sign > 0 for i in given) for sign in (1, -1))
    chance = round((1 - LEVEL) * len(given), 2)
    return f"{up + down} of {len(given)} leave out 0 ({up} above, {down} below); by chance alone {chance:g} would."


# --- accuracy, set by set ---------------------------------------------------------------------------------------


def set_by_set(data: ReportData, found: Differences) -> Section | None:
    """Sign flips only from as many seeds on as can tell anything."""
    tested = any(len(values) >= FEWEST for one in found.values() for values in one.by_set.values())
    if len(data.datasets) < 2 and not tested:
        return None
    rows: list[Row] = []
    for method in paired_differences.others(data):
        for dataset in data.datasets:
            places = [_on(found[method, column], dataset) for column in paired_differences.columns(data)]
            rows.append([name(method), dataset, *places])
    text = (
        f"As above, on each set alone: Student's t over the paired differences of its seeds. p: two-sided sign-flip "
        f"test, only from {FEWEST} seeds on."
    )
    few = f"No p-value: with fewer than {FEWEST} seeds no sign-flip test can reach 0.05 (2 of 2^seeds patterns)."
    source = data.source("t over seeds, 95 %, of paired differences")
    shown = table(_head(data, "method", "data set"), rows, source, left=2)
    return _section("Set by set against", data, text, shown, () if tested else (few,))


def _on(one: PairedDifference, dataset: str) -> Entry:
    values = one.by_set.get(dataset)
    if values is None:
        return Entry("–")
    over = intervals.over_seeds(values)
    flips = pairs.sign_flip(values, np.random.default_rng(0)) if len(values) >= FEWEST else None
    test = [] if flips is None else [f"p {'n/a' if flips.p is None else format(flips.p, '.3f')}"]
    text = ", ".join([formatting.difference(over), *test])
    return Entry(text, "apart" if one.fair and leaves_out_zero(over) else "plain")


# --- sets like these --------------------------------------------------------------------------------------------


def like_sets(data: ReportData, found: Differences) -> Section | None:
    if len(data.datasets) < FEWEST:
        return None
    rows: list[Row] = []
    for method in paired_differences.others(data):
        mine = [found[method, column] for column in paired_differences.columns(data)]
        rows.append([name(method), *(_over(one, one.like_sets(), data) for one in mine)])
    text = "As above, over sets like these: the interval is Student's t over the means of the sets."
    source = data.source("sets like these, t over set means, 95 %, of paired differences")
    return _section("Over sets like these, against", data, text, table(_head(data, "method"), rows, source))


def scores(data: ReportData, found: Differences) -> Section:
    """Wins, ties and losses are counts; odds of them need sets enough."""
    why = paired_differences.too_few(len(data.datasets))
    rows: list[Row] = [
        [name(method), *(_score(found[method, column]) for column in paired_differences.columns(data))]
        for method in paired_differences.others(data)
    ]
    text = (
        f"Sets on which the method's mean is better by more than {ZONE}, the same within them, and worse; in brackets "
        "the probability of each of the three on another such set (Bayesian signed-rank test)."
    )
    points = [f"Over sets like these, intervals and probabilities: n/a ({why})."] if why else []
    shown = table(_head(data, "method"), rows, data.source("none; a posterior where there is one"))
    return _section("Better, same, worse than", data, text, shown, points)


def _score(one: PairedDifference) -> str:
    if not one.by_set:
        return "–"
    score, odds = "/".join(map(str, pairs.win_tie_loss(one.means))), one.posterior()
    if odds.a is None or odds.same is None or odds.b is None:
        return score
    return f"{score} ({odds.a:.2f}/{odds.same:.2f}/{odds.b:.2f})"


# --- whole curves -----------------------------------------------------------------------------------------------


def whole_curves(data: ReportData) -> Section | None:
    """Comparison of methods with a whole curve: MACs at equal accuracy, accuracy at equal MACs, hypervolume."""
    bounds = {dataset: found for dataset in data.datasets if (found := data.bounds[dataset]) is not None}
    if len(bounds) < len(data.datasets) or not data.fronts:
        return None
    rows, silent = [], []
    for method in (data.first, *paired_differences.others(data)):
        row, why = _curve(data, method, bounds)
        rows.append(row)
        silent += [f"`{method}`, {one}" for one in why]
    text = (
        f"Step fronts of accuracy over MACs, averaged over seeds, against those of {data.first}: share of its MACs "
        "saved at equal accuracy, points of accuracy gained at equal MACs (mean over log2 MACs), both means over sets "
        "with 95 % intervals; ≠: it leaves out 0. Hypervolume: share of the rectangle from chance to 100 % accuracy "
        "and from 0 to the largest budget that the front fills, in %, in brackets half the interval over seeds."
    )
    source = data.source("whole seeds bootstrapped within these sets; hypervolume: Satterthwaite t, 95 %")
    head = ["method", "sets", "MACs saved", "accuracy gained", "hypervolume"]
    return _section("Fronts against", data, text, table(head, rows, source), silent)


Bounds = Mapping[str, curves.Bounds]


def _curve(data: ReportData, method: str, bounds: Bounds) -> tuple[Row, list[str]]:
    mine, first = data.fronts.get(method, {}), data.fronts.get(data.first, {})
    volume = _volume(data, mine, bounds)
    if method == data.first:
        return [name(method), _sets(mine, data), "–", "–", volume], []
    both = {dataset: seeds for dataset, seeds in mine.items() if dataset in first}
    ratio = advantage.macs_ratio(both, first, np.random.default_rng(0), data.chance)
    gain = advantage.accuracy_gained(both, first, bounds, np.random.default_rng(0), data.chance)
    advantages = {"MACs saved": ratio, "accuracy gained": gain}
    why = [f"{what}: n/a: {one.why}." for what, one in advantages.items() if not one.given]
    return [name(method), _sets(both, data), _saved(ratio), _gained(gain), volume], why


def _sets(there: Mapping[str, object], data: ReportData) -> str:
    return f"{len(there)} of {len(data.datasets)}"


def _saved(ratio: Interval) -> Entry:
    """The share turns the ends round: more MACs are fewer saved."""
    if ratio.estimate is None:
        return Entry("n/a")
    share = f"{formatting.signed(advantage.saved(ratio.estimate))} %"
    if ratio.low is None or ratio.high is None:
        return Entry(f"{share} (n/a)")
    low, high = (formatting.signed(advantage.saved(end)) for end in (ratio.high, ratio.low))
    return Entry(f"{share} ({low} to {high})", "apart" if leaves_out_zero(ratio) else "plain")


def _gained(gain: Interval) -> Entry:
    return Entry(formatting.difference(gain), "apart" if leaves_out_zero(gain) else "plain")


def _volume(data: ReportData, mine: advantage.Fronts, bounds: Bounds) -> str:
    if len(mine) < len(data.datasets):
        return "n/a"
    groups = []
    for dataset, seeds in sorted(mine.items()):
        chance, most = data.chance.get(dataset, 0.0), bounds[dataset][1]
        whole = most * (1 - chance)
        groups.append([curves.hypervolume(curve, most, chance) / whole for _, curve in sorted(seeds.items())])
    found = intervals.these_sets(groups)
    return "n/a" if found.estimate is None else formatting.number(found.estimate, found.half)


# --- single images ----------------------------------------------------------------------------------------------


def same_images(data: ReportData) -> Section | None:
    """Only where it is known which images a choice got right."""
    if not data.bitmaps:
        return None
    cells = {
        (str(method), str(dataset), int(seed)): str(cell)
        for method, dataset, seed, cell in zip(*(data.full[key] for key in (*frames.CELL, "cell")), strict=True)
    }
    rows: list[Row] = []
    for method in paired_differences.others(data):
        tests = _tests(data, method, cells)
        for dataset in data.datasets:
            rows.append([name(method), dataset, *(_won(tests.get((dataset, b), [])) for b in data.budgets)])
    text = (
        f"Exact McNemar test on the bitmaps of each seed: seeds in which the method gets significantly more (+) and "
        f"fewer (−) images right than {data.first}, p below {1 - LEVEL:.2f} after Holm over all tests of the "
        "method, of the seeds tested. It holds for these images and these trained weights, not for other seeds."
    )
    shown = table(["method", "data set", *map(share, data.budgets)], rows, data.source(), left=2)
    return _section("Same images as", data, text, shown)


Won = list[int]  # one a seed: 1 the method, -1 the first one, 0 not distinguished


def _tests(data: ReportData, method: str, cells: Mapping[tuple[str, str, int], str]) -> dict[tuple[str, float], Won]:
    made: dict[tuple[str, int, float], McNemar] = {}
    for dataset, seed in sorted({(d, s) for m, d, s in cells if m == method}):
        mine, first = cells[method, dataset, seed], cells.get((data.first, dataset, seed), "")
        for budget in data.budgets:
            left, right = data.bitmaps.get((mine, budget)), data.bitmaps.get((first, budget))
            if left is not None and right is not None and len(left) == len(right):
                made[dataset, seed, budget] = images.mcnemar(left, right)
    known = [key for key, test in made.items() if test.p is not None]
    adjusted = dict(zip(known, pairs.holm([made[key].p or 0.0 for key in known]), strict=True))
    found: dict[tuple[str, float], Won] = {}
    for (dataset, seed, budget), test in made.items():
        apart = adjusted.get((dataset, seed, budget), 1.0) < 1 - LEVEL
        found.setdefault((dataset, budget), []).append(apart * (1 if test.only_a > test.only_b else -1))
    return found


def _won(seeds: Won) -> str:
    return f"+{seeds.count(1)} −{seeds.count(-1)} of {len(seeds)}" if seeds else "–"
