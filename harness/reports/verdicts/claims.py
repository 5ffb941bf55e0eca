"""Claims against points: supported, refuted or undecided, with the effect, its interval and the seeds still needed.

A claim is about a *lead*: A minus B, or B minus A for ``direction = "less"``, paired by seed. It is supported where the
whole interval of its level lies above the margin ``by``, refuted where it lies below, else undecided. On at least k
sets, each set is decided alone, one-sided, by Holm over sets. Each claim stands at its own level; nothing is corrected
for their number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import pandas as pd

from harness.reports.verdicts.claim_file import AT_BUDGET, SHARES, Claim
from harness.results.results import CellKey
from harness.statistics import frames, intervals
from harness.statistics.intervals import Interval, Moments, moments
from harness.statistics.pairs import holm
from harness.suite import Suite

Outcome = Literal["supported", "refuted", "undecided"]
COUNTED = ("macs", "train_macs")  # these have no interval where all seeds agree
CAP = 100  # seeds a set


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """``interval``: of the lead; of the worst budget where the claim is about all. ``seeds`` of the set with fewest.

    ``needed``: seeds a set that would decide it if means and spreads stayed; ``CAP + 1``: more; None: unknown.
    """

    claim: Claim
    outcome: Outcome
    interval: Interval | None = None
    seeds: int = 0
    sets: int = 0
    needed: int | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


def judge_claims(claims: Sequence[Claim], points: pd.DataFrame, suite: Suite) -> tuple[ClaimVerdict, ...]:
    """Verdicts in the order of the claims; undecided where a cell that the claim needs is absent."""
    points = points[points["suite"] == suite.name]
    rows = {(r["method"], r["dataset"], r["seed"], r["budget"]): r for r in points.to_dict("records")}
    areas: dict[CellKey, float] = {}
    if any(claim.metric == "area" for claim in claims):
        curves = frames.curve_areas(points, frames.chance_by_set(points)).to_dict("records")
        areas = {(r["method"], r["dataset"], r["seed"]): float(r["area"]) for r in curves}
    return tuple(_judge(claim, _View(rows, areas, suite, claim)) for claim in claims)


@dataclass(frozen=True, slots=True)
class _View:
    """The points as one claim sees them."""

    rows: Mapping[tuple[Any, ...], Mapping[Any, Any]]
    areas: Mapping[CellKey, float]
    suite: Suite
    claim: Claim

    @property
    def sets(self) -> tuple[str, ...]:
        every = tuple(entry.name for entry in self.suite.datasets)
        return every if isinstance(self.claim.sets, str) else self.claim.sets

    @property
    def budgets(self) -> tuple[float, ...]:
        budget = self.claim.budget
        return (budget,) if isinstance(budget, float) else self.suite.budgets

    def cell_rows(self, method: str, dataset: str, seed: int) -> list[Mapping[Any, Any] | None]:
        return [self.rows.get((method, dataset, seed, budget)) for budget in self.budgets]

    def problems(self) -> list[str]:
        """Reasons why the claim cannot be judged: absent or failed points, unreachable budgets, different counters."""
        faults: Counter[str] = Counter()
        methods = [name for name in (self.claim.a, self.claim.b) if name is not None]
        fine = frames.MEASURED if self.claim.metric in AT_BUDGET else (*frames.MEASURED, "unreachable")
        for dataset in self.sets:
            known = []
            for method, seed in product(methods, self.suite.seeds):
                rows = self.cell_rows(method, dataset, seed)
                known += [row for row in rows if row is not None]
                states = {"missing" if row is None else row["status"] for row in rows}
                faults.update(f"{method} {state} on {dataset}" for state in states - {*fine})
            for key in ("full_macs", "n", "classes"):
                values = {row[key] for row in known if not pd.isna(row.get(key))}
                if len(values) > 1:
                    faults[f"not comparable on {dataset}: {key} {' and '.join(f'{v:g}' for v in sorted(values))}"] = 0
        return [
            f"{text} ({count} of {len(self.suite.seeds)} seeds)" if count else text for text, count in faults.items()
        ]

    def value(self, method: str, dataset: str, seed: int, budget: float) -> float:
        if self.claim.metric == "area":
            return self.areas.get((method, dataset, seed), math.nan)
        return float(self.rows[method, dataset, seed, budget][self.claim.metric])

    def lead(self, dataset: str, seed: int, budget: float) -> float:
        a, b = (self.value(str(name), dataset, seed, budget) for name in (self.claim.a, self.claim.b))
        return a - b if self.claim.direction == "greater" else b - a

    def leads(self, dataset: str, budgets: Sequence[float]) -> list[float]:
        """One a seed: the mean over the budgets."""
        return [sum(self.lead(dataset, seed, b) for b in budgets) / len(budgets) for seed in self.suite.seeds]

    def notes(self) -> tuple[str, ...]:
        methods = {self.claim.a, self.claim.b or self.claim.a}
        cells = [self.cell_rows(m, name, seed) for m in methods for name in self.sets for seed in self.suite.seeds]
        count = sum(row is not None and row["status"] == "suspicious" for cell in cells for row in cell)
        return (f"{count} points are suspicious",) if count else ()


Parts = dict[str, list[list[float]]]  # what is decided alone: budgets, sets, or one for everything; set by set, seeds


def _judge(claim: Claim, view: _View) -> ClaimVerdict:
    if claim.metric == "over_budget":
        return _over_budget(claim, view)
    problems, parts = view.problems(), {}
    if not problems:
        parts = _parts(claim, view)
        values = [value for groups in parts.values() for group in groups for value in group]
        problems = [] if all(map(math.isfinite, values)) else [f"a cell without {claim.metric}"]
    if problems:
        return ClaimVerdict(claim, "undecided", sets=len(view.sets), reason="; ".join(problems), notes=view.notes())
    return _decided(claim, parts, len(view.suite.seeds), view.notes())


def _over_budget(claim: Claim, view: _View) -> ClaimVerdict:
    """A count, not an estimate: one choice over its budget refutes it."""
    rows = [row for name in view.sets for seed in view.suite.seeds for row in view.cell_rows(claim.a, name, seed)]
    choices = [row for row in rows if row is not None and not pd.isna(row["macs"])]
    use = [row["macs"] / row["budget"] / row["full_macs"] for row in choices]
    over = sum(share > 1 + frames.SLACK for share in use)
    problems = "; ".join(view.problems())
    outcome: Outcome = "refuted" if over else "undecided" if problems or not use else "supported"
    count = f"{over} of {len(use)} choices over budget" + (f", mean use {sum(use) / len(use):.1%}" if use else "")
    reason, notes = problems if outcome == "undecided" else "", (count, *view.notes())
    return ClaimVerdict(claim, outcome, None, len(view.suite.seeds), len(view.sets), None, reason, notes)


def _parts(claim: Claim, view: _View) -> Parts:
    budgets = view.budgets if claim.metric in AT_BUDGET else view.budgets[:1]
    if claim.at_least is not None:
        return {name: [view.leads(name, budgets)] for name in view.sets}
    if claim.budget == "all":
        return {f"budget {b:g}": [view.leads(name, (b,)) for name in view.sets] for b in budgets}
    return {"": [view.leads(name, budgets) for name in view.sets]}


def _decided(claim: Claim, parts: Parts, seeds: int, notes: tuple[str, ...]) -> ClaimVerdict:
    summed = [[moments(group) for group in groups] for groups in parts.values()]
    outcome = _decide(claim, summed, None)
    shown = {name: _interval(claim, groups) for name, groups in parts.items()}
    name, interval = min(shown.items(), key=lambda item: item[1].estimate or 0.0)
    if claim.at_least is not None:
        interval = _interval(claim, [group for groups in parts.values() for group in groups])
    elif name:
        notes = (*notes, f"shown is {name}, the worst of {len(parts)}")
    if len(parts) > 1:
        notes = (*notes, *(f"{part}: {_span(each, claim)}" for part, each in shown.items()))
    reason = interval.why if outcome == "undecided" else ""
    needed = _needed(claim, summed, seeds) if outcome == "undecided" and seeds > 1 else None
    sets = max(len(parts) if claim.at_least is not None else 0, interval.sets)
    return ClaimVerdict(claim, outcome, interval, seeds, sets, needed, reason, notes)


def _interval(claim: Claim, groups: list[list[float]]) -> Interval:
    if claim.metric in COUNTED:
        return intervals.counted(groups, claim.scope, claim.level)
    return intervals.from_moments([moments(group) for group in groups], claim.scope, claim.level)


def _decide(claim: Claim, parts: Sequence[Sequence[Moments]], seeds: int | None) -> Outcome:
    """``seeds``: as if every set had so many, means and spreads staying."""
    error = (1 - claim.level) / 2
    above, below = map(list, zip(*(_tails(claim, part, seeds) for part in parts), strict=True))
    if claim.at_least is not None:
        wins, losses = (sum(p < error for p in holm(side)) for side in (above, below))
        return (
            "supported"
            if wins >= claim.at_least
            else "refuted"
            if losses > len(parts) - claim.at_least
            else "undecided"
        )
    # All budgets must hold, so no correction is due; that one of them fails may be chance in as many tries.
    return "supported" if max(above) < error else "refuted" if min(below) * len(parts) < error else "undecided"


def _tails(claim: Claim, part: Sequence[Moments], seeds: int | None) -> tuple[float, float]:
    tails = intervals.tails(part, claim.scope, claim.by, seeds)
    if tails is not None:
        return tails
    exact = claim.metric in COUNTED and _interval_is_a_point(part)
    lead = sum(moment.mean for moment in part) / len(part) - claim.by
    return (0.0 if exact and lead > 0 else 1.0, 0.0 if exact and lead < 0 else 1.0)


def _interval_is_a_point(part: Sequence[Moments]) -> bool:
    return all(moment.n > 1 and moment.variance == 0 for moment in part)


def _needed(claim: Claim, parts: Sequence[Sequence[Moments]], seeds: int) -> int:
    """The fewest seeds a set that would decide it; no power is promised: about half of such runs will fall short."""
    more = range(seeds + 1, CAP + 1)
    return next((count for count in more if _decide(claim, parts, count) != "undecided"), CAP + 1)


# --- for people and for CI ----------------------------------------------------------------------------------------


def claims_exit_code(verdicts: Sequence[ClaimVerdict]) -> int:
    """0: all supported; 1: at least one refuted; 3: none refuted, some undecided."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return 1 if "refuted" in outcomes else 3 if "undecided" in outcomes else 0


def claim_lines(verdicts: Sequence[ClaimVerdict]) -> list[str]:
    lines = []
    for one in verdicts:
        lines.append(f"{one.outcome:<10} {one.claim.id}: {one.claim.text}")
        lines += [f"{'':<11}{line}" for line in claim_details(one)]
    counts = Counter(verdict.outcome for verdict in verdicts)
    summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in get_args(Outcome))
    return [*lines, f"{len(verdicts)} claims: {summary}. Each stands at its own level, uncorrected for their number."]


def claim_details(verdict: ClaimVerdict) -> list[str]:
    """Lines that explain the outcome."""
    claim, lines = verdict.claim, []
    if verdict.interval is not None:
        first, second = (claim.a, claim.b) if claim.direction == "greater" else (claim.b, claim.a)
        words = {"all": " at all budgets", "mean": ", mean of budgets", None: ""}
        where = f" at {claim.budget:g}" if isinstance(claim.budget, float) else words[claim.budget]
        need = f"on at least {claim.at_least} sets " if claim.at_least is not None else ""
        lines.append(f"{claim.metric}{where}, {first} minus {second}: {_span(verdict.interval, claim)}")
        lines.append(f"claimed {need}above {_amount(claim.by, claim)}; {verdict.sets} sets, {verdict.seeds} seeds each")
    lines += [f"not decided: {verdict.reason}"] if verdict.reason else []
    if verdict.needed is not None:
        count = f"> {CAP}" if verdict.needed > CAP else str(verdict.needed)
        lines.append(f"seeds a set that would decide it, if means and spreads stay: {count}")
    return [*lines, *verdict.notes]


def _span(interval: Interval, claim: Claim) -> str:
    if interval.estimate is None or interval.low is None or interval.high is None:
        estimate = "" if interval.estimate is None else f"{_amount(interval.estimate, claim)}, "
        return f"{estimate}interval n/a ({interval.why})"
    low, high = _amount(interval.low, claim), _amount(interval.high, claim)
    return f"{_amount(interval.estimate, claim)} ({interval.level:.0%}: {low} to {high}, {interval.kind})"


def _amount(value: float, claim: Claim) -> str:
    return f"{100 * value:.2f} points" if claim.metric in SHARES else f"{value:.4g}"
