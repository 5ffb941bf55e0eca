"""Sanity checks: what must hold of every cell before its numbers are believed. Pure: from points and bitmaps.

Checks of one cell alone are run in the cell, which is then ``suspicious``; three need other points and are run here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import pandas as pd

from harness.evaluation.check_names import (
    DIAGNOSTICS_KEY,
    FULL,
    GROWING,
    MAJORITY,
    OVERFIT,
    PROBE,
    REASONS,
    SANITY_CHECKS,
    SLICED,
)
from harness.results.bitmaps import Bitmaps
from harness.results.record import Record
from harness.results.results import CellKey
from harness.statistics import frames, images
from harness.statistics.images import ImageDifference

Outcome = Literal["passed", "failed", "undecided", "not run"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "undecided", "not run")
NO_IMAGES = "the score is of the whole split: no image is right or wrong"
SHARE = 0.95  # of the full model's MACs from which a choice counts as full size
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference of a method's full size: the full size of the method that has this callable."""

    check: str
    callable: str
    itself: str
    margin: float  # a loss that is none


PLAIN = Reference(FULL, "fixed_uniform", "the plain fine-tune", 0.01)
PROBED = Reference(PROBE, "slice_untrained", "the linear probe", 0.0)


@dataclass(frozen=True, slots=True)
class SanityCheck:
    """One check of one cell. ``budget``: at which it failed, if it is about one; ``why`` for all that did not pass."""

    name: str
    outcome: Outcome
    method: str
    dataset: str
    seed: int
    cell: str
    budget: float | None = None
    why: str = ""


def run_checks(points: pd.DataFrame, records: Mapping[str, Record], bitmaps: Bitmaps) -> tuple[SanityCheck, ...]:
    """All checks of all cells that have a measured point, in an order that does not depend on that of the points."""
    measured = frames.accuracies(points).sort_values([*frames.CELL, "budget"])
    cells = _answers_of(measured, bitmaps)
    references = {reference: _names_of(reference, points, records) for reference in (PLAIN, PROBED)}
    checks: list[SanityCheck] = []
    for key, answers in cells.items():
        record = records.get(answers[0].cell)
        checks += [*_in_cell(key, answers, record), _growing(key, answers)]
        checks += [_full(key, cells, reference, names) for reference, names in references.items()]
    order = {name: place for place, name in enumerate(SANITY_CHECKS)}
    return tuple(sorted(checks, key=lambda one: (one.method, one.dataset, one.seed, order[one.name])))


@dataclass(frozen=True, slots=True)
class _Answer:
    """Result of a cell at one budget."""

    budget: float
    correct: int | None  # None: the score is of the whole split, and no image is right or wrong
    n: int
    cell: str
    reason: str
    key: str
    share: float  # of the full model's MACs
    bits: Any = None


def _answers_of(measured: pd.DataFrame, bitmaps: Bitmaps) -> dict[CellKey, list[_Answer]]:
    """Answers of each cell, in the order of the rows."""
    names = (*frames.CELL, "budget", "correct", "n", "cell", "reason", "key", "macs", "full_macs")
    cells: dict[CellKey, list[_Answer]] = {}
    for method, dataset, seed, budget, correct, n, cell, reason, key, macs, full in zip(
        *(measured[name].tolist() for name in names), strict=True
    ):
        text = reason if isinstance(reason, str) else ""
        bits, right = bitmaps.get((str(cell), float(budget))), None if pd.isna(correct) else int(correct)
        answer = _Answer(float(budget), right, int(n), str(cell), text, str(key), macs / full, bits)
        cells.setdefault((str(method), str(dataset), int(seed)), []).append(answer)
    return cells


def _check(
    name: str, outcome: Outcome, key: CellKey, cell: str, why: str = "", budget: float | None = None
) -> SanityCheck:
    return SanityCheck(name, outcome, *key, cell, budget, why)


def _in_cell(key: CellKey, answers: Sequence[_Answer], record: Record | None) -> list[SanityCheck]:
    """Outcomes that the cell itself gives: the reasons of its points, and its record."""
    cell, checks = answers[0].cell, list[SanityCheck]()
    for words, name in REASONS.items():
        if name == MAJORITY and answers[0].correct is None:
            checks.append(_check(name, "not run", key, cell, NO_IMAGES))
            continue
        bad = [answer for answer in answers if words in answer.reason]
        why = "; ".join(part for part in bad[0].reason.split("; ") if words in part) if bad else ""
        checks.append(_check(name, "failed" if bad else "passed", key, cell, why, bad[0].budget if bad else None))
    outcomes = record.diagnostics.get(DIAGNOSTICS_KEY) if record is not None else None
    for name in (OVERFIT, SLICED):
        outcome = outcomes.get(name) if isinstance(outcomes, Mapping) else None
        if isinstance(outcome, str):
            checks.append(_check(name, "failed" if outcome else "passed", key, cell, outcome))
        else:
            checks.append(_check(name, "not run", key, cell, "the cell did not run it"))
    return checks


# --- the full size ----------------------------------------------------------------------------------------------


def _names_of(reference: Reference, points: pd.DataFrame, records: Mapping[str, Record]) -> list[str]:
    """Methods that are the reference at the full budget, whatever a suite calls them."""
    callables = {record.method: record.callable for record in records.values()}
    names = sorted(map(str, points["method"].unique()))
    return [name for name in names if callables.get(name, name) == reference.callable]


def _full(
    key: CellKey, cells: Mapping[CellKey, Sequence[_Answer]], reference: Reference, names: Sequence[str]
) -> SanityCheck:
    """Failed only where the whole interval of the difference lies below the margin: a point is noise of few images.

    Passed where the interval lies above the margin, or the difference itself is no loss; else undecided.
    """
    method, dataset, seed = key
    cell, mine, check = cells[key][0].cell, _at_full(cells[key]), reference.check
    if method in names:
        return _check(check, "passed", key, cell, f"it is {reference.itself}")
    others = (_at_full(cells.get((name, dataset, seed), ())) for name in names)
    other = next((answer for answer in others if answer is not None), None)
    if mine is None or other is None or mine.share < SHARE:
        return _check(check, "not run", key, cell, _no_pair(mine, other, reference))
    difference = _difference(mine, other)
    if difference is None:
        return _check(check, "not run", key, cell, NO_IMAGES)
    span = f"{_points(difference.low)} to {_points(difference.high)}, {difference.kind}"
    why = f"{_points(difference.estimate)} points against it ({span})"
    if difference.high < -reference.margin:
        return _check(check, "failed", key, cell, why, mine.budget)
    passed = difference.low >= -reference.margin or difference.estimate >= 0
    return _check(check, "passed" if passed else "undecided", key, cell, "" if passed else why)


def _no_pair(mine: _Answer | None, other: _Answer | None, reference: Reference) -> str:
    if mine is None:
        return "no choice at the full budget"
    if mine.share < SHARE:
        return f"its choice at the full budget has {100 * mine.share:.0f} % of the full size"
    return "" if other is not None else f"no {reference.callable} at the full budget on this set and seed"


def _at_full(answers: Sequence[_Answer]) -> _Answer | None:
    return next((answer for answer in answers if answer.budget == 1.0), None)


def _difference(a: _Answer, b: _Answer) -> ImageDifference | None:
    """None where no image is right or wrong."""
    if a.correct is None or b.correct is None:
        return None
    if a.bits is not None and b.bits is not None and len(a.bits) == len(b.bits):
        return images.paired_images(a.bits, b.bits)
    return images.counted_images(a.correct, b.correct, a.n, b.n)


# --- growing with the budget ------------------------------------------------------------------------------------


def _growing(key: CellKey, answers: Sequence[_Answer]) -> SanityCheck:
    """Every larger choice against every smaller one, one-sided, Bonferroni over the pairs of the cell."""
    cell = answers[0].cell
    pairs = [(small, large) for small, large in combinations(answers, 2) if small.key != large.key]
    if not pairs:
        return _check(GROWING, "not run", key, cell, "fewer than two different choices")
    tested = ((_difference(large, small), small, large) for small, large in pairs)
    differences = [(found, small, large) for found, small, large in tested if found is not None]
    if not differences:
        return _check(GROWING, "not run", key, cell, NO_IMAGES)
    worst, small, large = min(differences, key=lambda found: (found[0].p_worse, found[0].estimate))
    p = worst.p_worse * len(pairs)
    if p >= ALPHA:
        return _check(GROWING, "passed", key, cell)
    why = (
        f"{_points(worst.estimate)} points from budget {small.budget:g} to {large.budget:g}, more than the noise of "
        f"{large.n} images ({worst.kind}, p {min(1.0, p):.2g} of {len(pairs)} pairs)"
    )
    return _check(GROWING, "failed", key, cell, why, large.budget)


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


# --- what follows from it ---------------------------------------------------------------------------------------


def marked_suspicious(points: pd.DataFrame, checks: Iterable[SanityCheck]) -> pd.DataFrame:
    """The same points, those ``suspicious`` that a check failed on, the reason added; the others as they were."""
    marked = points.copy()
    marked["reason"] = marked["reason"].astype(object)
    for check in checks:
        if check.outcome != "failed" or check.name not in (FULL, PROBE, GROWING):
            continue
        here = (marked["cell"] == check.cell) & (marked["budget"] == check.budget)
        here &= marked["status"].isin(frames.MEASURED)
        why = f"{check.name}: {check.why}"
        marked.loc[here, "status"] = "suspicious"
        marked.loc[here, "reason"] = [
            f"{old}; {why}" if isinstance(old, str) and old else why for old in marked.loc[here, "reason"]
        ]
    return marked


def count_outcomes(checks: Iterable[SanityCheck]) -> dict[tuple[str, str], dict[Outcome, int]]:
    """Count by (check, method) how many cells passed, failed, are undecided, were not run."""
    by_check: dict[tuple[str, str], dict[Outcome, int]] = {}
    for check in checks:
        counts = by_check.setdefault((check.name, check.method), dict.fromkeys(OUTCOMES, 0))
        counts[check.outcome] += 1
    return by_check
