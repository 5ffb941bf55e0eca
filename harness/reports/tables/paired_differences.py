"""Every method against the suite's first one, as values: paired differences over seeds, and what is doubtful there."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.reports.subject import Subject
from harness.statistics import frames, intervals, pairs
from harness.statistics.intervals import Interval, Scope

Column = float | None  # a budget; None: the area over all budgets
Values = Mapping[str, Mapping[int, float]]  # data set to seed to value


@dataclass(frozen=True, slots=True)
class Gap:
    """A method minus the first one. ``by_set``: one value a seed that both have; only sets with such a seed.

    ``doubts``: of the method there, "suspicious" or "unequal budget". ``fair``: both spent what is common; what was not
    trained on equal terms is shown, but neither marked nor counted.
    """

    method: str
    column: Column
    by_set: Mapping[str, Sequence[float]]
    doubts: tuple[str, ...] = ()
    fair: bool = True

    @property
    def means(self) -> list[float]:
        """Of the sets."""
        return [sum(values) / len(values) for values in self.by_set.values()]

    def over(self, scope: Scope = "these sets") -> Interval:
        groups = list(self.by_set.values())
        return (intervals.these_sets if scope == "these sets" else intervals.like_sets)(groups)


def leaves_out_zero(found: Interval) -> bool:
    return found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)


def columns(subject: Subject) -> tuple[Column, ...]:
    return (*subject.budgets, None)


def others(subject: Subject) -> list[str]:
    return [method for method in subject.methods if method != subject.first]


def gaps(subject: Subject) -> dict[tuple[str, Column], Gap]:
    """By method and column."""
    found: dict[tuple[str, Column], Gap] = {}
    for column in columns(subject):
        values = _values(subject, column)
        mine = values.get(subject.first, {})
        for method in others(subject):
            theirs = values.get(method, {})
            both = {name: pairs.paired(theirs[name], mine[name]) for name in sorted(theirs.keys() & mine.keys())}
            kept = {name: by_seed for name, by_seed in both.items() if by_seed}
            fair = not any(one in (method, subject.first) for one, _, _ in subject.unequal)
            found[method, column] = Gap(method, column, kept, doubts(subject, method, column), fair)
    return found


def _values(subject: Subject, column: Column) -> Mapping[str, Values]:
    if column is not None:
        return frames.at_budget(subject.points, column)
    found: dict[str, dict[str, dict[int, float]]] = {}
    known = subject.areas.dropna(subset=["area"])
    for method, dataset, seed, area in zip(*(known[key] for key in (*frames.CELL, "area")), strict=True):
        found.setdefault(str(method), {}).setdefault(str(dataset), {})[int(seed)] = float(area)
    return found


def doubts(subject: Subject, method: str, column: Column) -> tuple[str, ...]:
    suspicious = any(one == method and column in (None, budget) for one, budget in subject.suspicious)
    unequal = any(one == method for one, _, _ in subject.unequal)
    return ("suspicious",) * suspicious + ("unequal budget",) * unequal


# --- CSV --------------------------------------------------------------------------------------------------------

COLUMNS = (
    "suite", "first", "method", "scope", "dataset", "budget", "sets", "pairs", "estimate", "low", "high", "why",
    "apart", "doubts", "fair",
)  # fmt: skip


def table_csv(subject: Subject) -> str:
    """A row a (method, budget or area, scope): the method minus the first one. ``scope``: one, these or like (sets).

    ``apart``: 1 where the 95 % interval leaves out 0, 0 where it holds it; empty where there is none.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    if not subject.points.empty:
        for gap in sorted(gaps(subject).values(), key=lambda one: (one.method, one.column is None, one.column)):
            one = [("one", name, intervals.over_seeds(values)) for name, values in gap.by_set.items()]
            every = [("these", "", gap.over()), ("like", "", gap.over("sets like these"))]
            writer.writerows(_row(subject, gap, *part) for part in (*every, *one))
    return out.getvalue()


def _row(subject: Subject, gap: Gap, scope: str, dataset: str, found: Interval) -> list[object]:
    ends = ["" if value is None else f"{value:.6f}" for value in (found.estimate, found.low, found.high)]
    apart = int(leaves_out_zero(found)) if found.given else ""
    return [
        subject.suite, subject.first, gap.method, scope, dataset, "area" if gap.column is None else repr(gap.column),
        found.sets, found.n, *ends, found.why, apart, "; ".join(gap.doubts), int(gap.fair),
    ]  # fmt: skip
