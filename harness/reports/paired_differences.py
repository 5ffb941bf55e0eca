"""One method minus another over the seeds that both have: the values, what is doubtful there, and what may be said."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.reports.report_data import Column, ReportData
from harness.statistics import intervals, pairs
from harness.statistics.intervals import Interval
from harness.statistics.pairs import FEWEST, Posterior

DRAWS = 4_000  # of a posterior: shares to half a point


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """``by_set``: one value a seed that both have; only data sets with such a seed.

    ``warnings``: of the method there, "suspicious" or "unequal budget". ``fair``: both spent what is common; what was
    not trained on equal terms is shown, but neither marked nor counted.
    """

    method: str
    column: Column
    by_set: Mapping[str, Sequence[float]]
    warnings: tuple[str, ...] = ()
    fair: bool = True

    @property
    def means(self) -> list[float]:
        """Mean difference of each data set."""
        return [sum(values) / len(values) for values in self.by_set.values()]

    def these_sets(self) -> Interval:
        return intervals.these_sets(list(self.by_set.values()))

    def like_sets(self) -> Interval:
        """Interval over data sets like these; none where the data sets are too few to generalise."""
        interval = intervals.like_sets(list(self.by_set.values()))
        why = too_few(len(self.by_set))
        return replace(interval, low=None, high=None, why=why) if why and interval.given else interval

    def posterior(self) -> Posterior:
        """Posterior probabilities of better, same and worse on another such data set."""
        why = too_few(len(self.by_set))
        if why:
            return Posterior(None, None, None, why)
        return pairs.signed_rank(self.means, np.random.default_rng(0), draws=DRAWS)


def too_few(sets: int) -> str:
    """Reason not to generalise to other data sets; "" where there are enough of these."""
    if sets >= FEWEST:
        return ""
    return f"{sets} set{'' if sets == 1 else 's'}; with fewer than {FEWEST} little can be said of other sets"


def leaves_out_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and (interval.low > 0 or interval.high < 0)


def columns(data: ReportData) -> tuple[Column, ...]:
    return (*data.budgets, None)


def others(data: ReportData) -> list[str]:
    return [method for method in data.methods if method != data.first]


def difference(data: ReportData, method: str, other: str, column: Column) -> PairedDifference:
    """``method`` minus ``other``, paired by seed."""
    mine, theirs = data.values_between(method, other, column)
    both = {name: pairs.paired(mine[name], theirs[name]) for name in data.datasets if name in mine and name in theirs}
    by_set = {name: values for name, values in both.items() if values}
    fair = not any(name in (method, other) for name, _, _ in data.unequal)
    return PairedDifference(method, column, by_set, warnings(data, method, column), fair)


def against_first(data: ReportData) -> dict[tuple[str, Column], PairedDifference]:
    """Every other method minus the first one, by method and column."""
    return {
        (method, column): difference(data, method, data.first, column)
        for column in columns(data)
        for method in others(data)
    }


def warnings(data: ReportData, method: str, column: Column) -> tuple[str, ...]:
    suspicious = any(one == method and column in (None, budget) for one, budget in data.suspicious)
    unequal = any(one == method for one, _, _ in data.unequal)
    return ("suspicious",) * suspicious + ("unequal budget",) * unequal


# --- CSV --------------------------------------------------------------------------------------------------------

COLUMNS = (
    "suite", "first", "method", "scope", "dataset", "budget", "sets", "pairs", "estimate", "low", "high", "why",
    "apart", "doubts", "fair",
)  # fmt: skip


def differences_csv(data: ReportData) -> str:
    """A row a (method, budget or area, scope): the method minus the first one. ``scope``: one, these or like (sets).

    Areas are those over the budgets that both reach; ``low`` and ``high`` are cut to [-1, 1].
    ``apart``: 1 where the 95 % interval leaves out 0, 0 where it holds it; empty where there is none.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    if not data.points.empty:
        for one in sorted(against_first(data).values(), key=lambda d: (d.method, d.column is None, d.column)):
            sets = [("one", name, intervals.over_seeds(values)) for name, values in one.by_set.items()]
            every = [("these", "", one.these_sets()), ("like", "", one.like_sets())]
            writer.writerows(_row(data, one, *part) for part in (*every, *sets))
    return out.getvalue()


def _row(data: ReportData, one: PairedDifference, scope: str, dataset: str, interval: Interval) -> list[object]:
    possible = interval.within(-1, 1)
    ends = ["" if value is None else f"{value:.6f}" for value in (interval.estimate, possible.low, possible.high)]
    apart = int(leaves_out_zero(interval)) if interval.given else ""
    return [
        data.suite, data.first, one.method, scope, dataset, "area" if one.column is None else repr(one.column),
        interval.sets, interval.n, *ends, interval.why, apart, "; ".join(one.warnings), int(one.fair),
    ]  # fmt: skip
