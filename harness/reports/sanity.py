"""The sanity ladder: what must hold of every cell before its numbers are believed. Pure: from points and bitmaps.

Rungs of one cell alone are run in the cell, which is then ``suspicious``; two need other points and are run here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import pandas as pd

from harness.evaluation.check_names import DIAGNOSTICS_KEY, FULL, GROWING, OVERFIT, REASONS, SANITY_CHECKS, SLICED
from harness.results.bitmaps import Bitmaps
from harness.results.record import Record
from harness.statistics import frames, shares
from harness.statistics.shares import Gap

Outcome = Literal["passed", "failed", "undecided", "not run"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "undecided", "not run")
PLAIN = "fixed_uniform"  # its choice at the full budget is the backbone itself, fine-tuned
MARGIN = 0.01
SHARE = 0.95  # of the full model's MACs from which a choice counts as full size
ALPHA = 0.05
Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Rung:
    """``budget``: at which it failed, if it is about one; ``why`` for all that did not pass."""

    name: str
    outcome: Outcome
    method: str
    dataset: str
    seed: int
    cell: str
    budget: float | None = None
    why: str = ""


def climb(points: pd.DataFrame, records: Mapping[str, Record], bitmaps: Bitmaps) -> tuple[Rung, ...]:
    """All rungs of all cells that have a measured point, in an order that does not depend on that of the points."""
    measured = frames.accuracies(points).sort_values([*frames.CELL, "budget"])
    cells = {_key(here): _answers(here, bitmaps) for _, here in measured.groupby(frames.CELL)}
    plain = _plain_names(points, records)
    found: list[Rung] = []
    for key, answers in cells.items():
        record = records.get(answers[0].cell)
        found += [*_in_cell(key, answers, record), _full(key, cells, plain), _growing(key, answers)]
    order = {name: place for place, name in enumerate(SANITY_CHECKS)}
    return tuple(sorted(found, key=lambda rung: (rung.method, rung.dataset, rung.seed, order[rung.name])))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a cell measured at one budget."""

    budget: float
    correct: int
    n: int
    cell: str
    reason: str
    key: str
    share: float  # of the full model's MACs
    bits: Any = None


def _key(here: pd.DataFrame) -> Key:
    return str(here["method"].iloc[0]), str(here["dataset"].iloc[0]), int(here["seed"].iloc[0])


def _answers(here: pd.DataFrame, bitmaps: Bitmaps) -> list[_Answer]:
    columns = (here[name] for name in ("budget", "correct", "n", "cell", "reason", "key", "macs", "full_macs"))
    return [
        _Answer(float(budget), int(correct), int(n), str(cell), reason if isinstance(reason, str) else "",
                str(key), macs / full, bitmaps.get((str(cell), float(budget))))
        for budget, correct, n, cell, reason, key, macs, full in zip(*columns, strict=True)
    ]  # fmt: skip


def _rung(name: str, outcome: Outcome, key: Key, cell: str, why: str = "", budget: float | None = None) -> Rung:
    return Rung(name, outcome, *key, cell, budget, why)


def _in_cell(key: Key, answers: Sequence[_Answer], record: Record | None) -> list[Rung]:
    """As the cell itself told: its points' reasons, and what its record keeps."""
    cell, found = answers[0].cell, []
    for words, name in REASONS.items():
        bad = [answer for answer in answers if words in answer.reason]
        why = "; ".join(part for part in bad[0].reason.split("; ") if words in part) if bad else ""
        found.append(_rung(name, "failed" if bad else "passed", key, cell, why, bad[0].budget if bad else None))
    kept = record.diagnostics.get(DIAGNOSTICS_KEY) if record is not None else None
    for name in (OVERFIT, SLICED):
        told = kept.get(name) if isinstance(kept, Mapping) else None
        if isinstance(told, str):
            found.append(_rung(name, "failed" if told else "passed", key, cell, told))
        else:
            found.append(_rung(name, "not run", key, cell, "the cell did not run it"))
    return found


# --- the full size ----------------------------------------------------------------------------------------------


def _plain_names(points: pd.DataFrame, records: Mapping[str, Record]) -> list[str]:
    """Methods that are the plain fine-tune at the full budget, whatever a suite calls them."""
    uses = {record.method: _use(record) for record in records.values()}
    names = sorted(map(str, points["method"].unique()))
    return [name for name in names if uses.get(name, name).rpartition(":")[2] == PLAIN]


def _use(record: Record) -> str:
    method = record.identity.get("method")
    return str(method.get("use", "")) if isinstance(method, Mapping) else ""


def _full(key: Key, cells: Mapping[Key, Sequence[_Answer]], plain: Sequence[str]) -> Rung:
    """Failed only where the whole interval of the difference lies below -1 point: a bare point is noise of few images.

    Passed where the interval lies above -1 point, or the difference itself is no loss; else undecided.
    """
    method, dataset, seed = key
    cell, mine = cells[key][0].cell, _at_full(cells[key])
    if method in plain:
        return _rung(FULL, "passed", key, cell, "it is the plain fine-tune")
    other = next((found for name in plain if (found := _at_full(cells.get((name, dataset, seed), ())))), None)
    if mine is None or other is None or mine.share < SHARE:
        return _rung(FULL, "not run", key, cell, _no_pair(mine, other))
    gap = _gap(mine, other)
    told = f"{_points(gap.estimate)} points against it ({_points(gap.low)} to {_points(gap.high)}, {gap.how})"
    if gap.high < -MARGIN:
        return _rung(FULL, "failed", key, cell, told, mine.budget)
    passed = gap.low >= -MARGIN or gap.estimate >= 0
    return _rung(FULL, "passed" if passed else "undecided", key, cell, "" if passed else told)


def _no_pair(mine: _Answer | None, other: _Answer | None) -> str:
    if mine is None:
        return "no choice at the full budget"
    if mine.share < SHARE:
        return f"its choice at the full budget has {100 * mine.share:.0f} % of the full size"
    return "" if other is not None else f"no {PLAIN} at the full budget on this set and seed"


def _at_full(answers: Sequence[_Answer]) -> _Answer | None:
    return next((answer for answer in answers if answer.budget == 1.0), None)


def _gap(a: _Answer, b: _Answer) -> Gap:
    if a.bits is not None and b.bits is not None and len(a.bits) == len(b.bits):
        return shares.paired(a.bits, b.bits)
    return shares.counts(a.correct, b.correct, a.n, b.n)


# --- growing with the budget ------------------------------------------------------------------------------------


def _growing(key: Key, answers: Sequence[_Answer]) -> Rung:
    """Every larger choice against every smaller one, one-sided, Bonferroni over the pairs of the cell."""
    cell = answers[0].cell
    pairs = [(small, large) for small, large in combinations(answers, 2) if small.key != large.key]
    if not pairs:
        return _rung(GROWING, "not run", key, cell, "fewer than two different choices")
    gaps = [(_gap(large, small), small, large) for small, large in pairs]
    gap, small, large = min(gaps, key=lambda found: (found[0].fall, found[0].estimate))
    if gap.fall * len(pairs) >= ALPHA:
        return _rung(GROWING, "passed", key, cell)
    told = (
        f"{_points(gap.estimate)} points from budget {small.budget:g} to {large.budget:g}, more than the noise of "
        f"{large.n} images ({gap.how}, p {min(1.0, gap.fall * len(pairs)):.2g} of {len(pairs)} pairs)"
    )
    return _rung(GROWING, "failed", key, cell, told, large.budget)


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


# --- what follows from it ---------------------------------------------------------------------------------------


def doubted(points: pd.DataFrame, rungs: Iterable[Rung]) -> pd.DataFrame:
    """The same points, those ``suspicious`` that a rung failed on, the reason added; the others as they were."""
    failed = [rung for rung in rungs if rung.outcome == "failed" and rung.name in (FULL, GROWING)]
    doubts = points.copy()
    doubts["reason"] = doubts["reason"].astype(object)
    for rung in failed:
        here = (doubts["cell"] == rung.cell) & (doubts["budget"] == rung.budget)
        here &= doubts["status"].isin(frames.MEASURED)
        doubts.loc[here, "status"] = "suspicious"
        doubts.loc[here, "reason"] = [
            f"{old}; {rung.name}: {rung.why}" if isinstance(old, str) and old else f"{rung.name}: {rung.why}"
            for old in doubts.loc[here, "reason"]
        ]
    return doubts


def tally(rungs: Iterable[Rung]) -> dict[tuple[str, str], dict[Outcome, int]]:
    """By (rung, method): how many cells passed, failed, are undecided, were not run."""
    found: dict[tuple[str, str], dict[Outcome, int]] = {}
    for rung in rungs:
        counts = found.setdefault((rung.name, rung.method), dict.fromkeys(OUTCOMES, 0))
        counts[rung.outcome] += 1
    return found
