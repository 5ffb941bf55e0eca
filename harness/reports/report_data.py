"""Input of tables, figures, page and claims: the points of one suite, and what is derived from them once."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import pandas as pd

from harness.reports import marking, metric_values, sanity
from harness.reports.appearance import COLOURS
from harness.reports.sanity import SanityCheck
from harness.results.bitmaps import Bitmaps
from harness.results.record import Record
from harness.results.results import CellKey, Results
from harness.statistics import frames
from harness.statistics.curves import Bounds, Steps
from harness.suite import Suite
from harness.tasks import ACCURACY, SCORES, Score

Column = float | None  # a budget; None: the area over all budgets
ALONE = "fixed_"  # callables that train one model for each budget
FIRST = len(COLOURS)  # methods that one panel shows in colours
REFERENCE = "reference"  # the folder of reported values, beside those of the suites


@dataclass(frozen=True)
class ReportData:
    """``points``: as ``points.csv`` has them, in any order. ``planned``: every cell of the suite; empty: those there.

    ``cards``: method to its card; ``records`` by cell, as far as they were kept; ``unplanned``: rows that the plan
    does not name and that are in no number.
    """

    suite: str
    points: pd.DataFrame
    title: str = ""
    regime: str = "equal_steps"
    planned: frozenset[CellKey] = frozenset()
    planned_budgets: tuple[float, ...] = ()
    records: Mapping[str, Record] = field(default_factory=dict)
    checks: tuple[SanityCheck, ...] = ()
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reported: Mapping[str, str] = field(default_factory=dict)  # name of a file -> its text
    reference: str = ""  # the method that others are compared with; "": the first by name
    leading: tuple[str, ...] = ()  # the suite's first two methods
    bitmaps: Bitmaps = field(default_factory=dict)
    unplanned: pd.DataFrame = field(default_factory=pd.DataFrame)
    absent: tuple[str, ...] = ()  # optional columns that points.csv lacks
    metric_values: pd.DataFrame = field(default_factory=pd.DataFrame)  # of the suite's metrics, as metrics.csv has them

    @classmethod
    def of(cls, results: Results, suite: Suite) -> Self:
        """Read the folder of a suite; points are suspicious where a sanity check over several cells failed."""
        records = {
            cell: results.records[cell] for cell in results.points["cell"].dropna().unique() if cell in results.records
        }
        checks = sanity.run_checks(results.points, records, results.bitmaps)
        files = sorted((results.folder.parent / REFERENCE).glob("*.csv"))
        return cls(
            suite=suite.name,
            points=sanity.marked_suspicious(results.points, checks),
            title=suite.title,
            regime=suite.regime,
            planned=results.planned,
            planned_budgets=suite.budgets,
            records=records,
            checks=checks,
            cards=results.cards,
            reported={path.name: path.read_text(encoding="utf-8") for path in files},
            reference=suite.methods[0].name,
            leading=tuple(method.name for method in suite.methods[:2]),
            bitmaps=results.bitmaps,
            unplanned=results.unplanned,
            absent=results.absent,
            metric_values=metric_values.gather_values(results.folder, suite.metrics, results.points),
        )

    @cached_property
    def full(self) -> pd.DataFrame:
        """The points in order, and a row ``missing`` for each that is not there, of the methods that ran."""
        ran = self.points[~self.points["method"].isin(self.not_run)]
        ordered = ran.sort_values([*frames.CELL, "budget"], ignore_index=True)
        planned = [cell for cell in self.planned if cell[0] not in self.not_run]
        return frames.completed(ordered, planned, self.planned_budgets)

    @cached_property
    def not_run(self) -> tuple[str, ...]:
        """Methods without a point; none where no method has one. They have no rows, and are named once."""
        ran = {*self.points.loc[self.points["status"] != "missing", "method"]}
        named = {*self.points["method"], *(method for method, _, _ in self.planned)}
        return tuple(sorted(named - ran)) if ran else ()

    @cached_property
    def chance(self) -> dict[str, float]:
        """Score of guessing, by data set."""
        return frames.chance_by_set(self.points)

    @cached_property
    def score(self) -> Score:
        """The score that the column ``accuracy`` holds."""
        named = self.points["score"].dropna() if "score" in self.points else ()
        return SCORES[next(iter(named), ACCURACY)]

    @cached_property
    def reached_from(self) -> dict[str, float]:
        """Smallest budget of each method from which it reaches every one."""
        return frames.reached_from(self.full)

    @cached_property
    def areas(self) -> pd.DataFrame:
        """Area of each cell over the budgets that its method reaches: :func:`frames.curve_areas`."""
        starts = sorted({*self.reached_from.values()})
        own = [
            areas[areas["method"].map(self.reached_from) == at] for at in starts if len(areas := self.areas_from(at))
        ]
        return pd.concat(own or [self.areas_from(0.0)]).sort_values(frames.CELL, ignore_index=True)

    @cached_property
    def _areas(self) -> dict[float, pd.DataFrame]:
        return {}

    def areas_from(self, budget: float) -> pd.DataFrame:
        """Areas over this budget and all larger ones, so that methods can be compared where both reach all."""
        if budget not in self._areas:
            self._areas[budget] = self._areas_over(budget)
        return self._areas[budget]

    def _areas_over(self, budget: float) -> pd.DataFrame:
        if budget <= min(self.budgets, default=0.0):
            return frames.curve_areas(self.full, self.chance)
        larger = self.full[self.full["budget"] >= budget].drop(columns="area", errors="ignore")
        areas = frames.curve_areas(larger, self.chance)
        if self.suite in frames.suites_on_grid(self.full):  # points.csv has the means over all budgets alone
            records = {(one.method, one.dataset, one.seed): one for one in self.ordered_records}
            cells = areas[frames.CELL].itertuples(index=False, name=None)
            areas["area"] = [records[cell].area_from(budget) if cell in records else math.nan for cell in cells]
        return areas

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Score by method, data set and budget: :func:`frames.accuracy_summary`."""
        return frames.accuracy_summary(self.full)

    @cached_property
    def marks(self) -> dict[tuple[str, float], marking.Marks]:
        """Marks of each data set and budget."""
        return marking.marks_by_set(self.points, self.unequal)

    @cached_property
    def values(self) -> dict[Column, dict[str, dict[str, dict[int, float]]]]:
        """Scores at each budget, and the areas: method to data set to seed."""
        measured = frames.accuracies(self.full)
        at_budget: dict[Column, dict[str, dict[str, dict[int, float]]]] = {
            budget: frames.by_cell(measured[measured["budget"] == budget], "accuracy") for budget in self.budgets
        }
        return {**at_budget, None: frames.by_cell(self.areas.dropna(subset=["area"]), "area")}

    def values_between(self, one: str, other: str, column: Column) -> list[dict[str, dict[int, float]]]:
        """Values of two methods, data set to seed; areas over the budgets that both reach."""
        if column is not None:
            values = self.values.get(column, {})
        else:
            areas = self.areas_from(max(self.reached_from.get(name, 0.0) for name in (one, other)))
            values = frames.by_cell(areas.dropna(subset=["area"]), "area")
        return [values.get(name, {}) for name in (one, other)]

    @cached_property
    def denominator(self) -> frames.Denominator:
        """Completeness of all planned cells, of methods that did not run too."""
        return frames.denominator(frames.completed(self.points, self.planned, self.planned_budgets), self.planned)

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """Notices that a reader needs before any number."""
        unrun = [f"Not run: {', '.join(f'`{name}`' for name in self.not_run)}."] if self.not_run else []
        return (*unrun, *([self._unplanned()] if len(self.unplanned) else []))

    def _unplanned(self) -> str:
        cells = self.unplanned.drop_duplicates(frames.CELL)
        names = ", ".join(f"{m} on {d} (seed {s})" for m, d, s in cells[frames.CELL].head(3).itertuples(index=False))
        more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
        return (
            f"Not counted: {len(self.unplanned)} rows of points.csv, of cells that the suite no longer names, by their "
            f"recipe or by their name: {names}{more}."
        )

    @cached_property
    def datasets(self) -> list[str]:
        return sorted(map(str, self.full["dataset"].unique()))

    @cached_property
    def budgets(self) -> list[float]:
        return sorted(map(float, self.full["budget"].unique()))

    @cached_property
    def methods(self) -> list[str]:
        return sorted(map(str, self.full["method"].unique()))

    @cached_property
    def shown_first(self) -> list[str]:
        """Methods that one panel shows first: all of up to 8, of more the leading ones and, up to 8, those of the
        largest mean accuracy, where no answer to a budget counts as 0.
        """
        if len(self.methods) <= FIRST:
            return self.methods
        means = self.full.assign(accuracy=self.full["accuracy"].fillna(0.0)).groupby("method")["accuracy"].mean()
        best = means.sort_values(ascending=False, kind="stable").index
        leading = [method for method in self.leading if method in self.methods]
        others = [str(method) for method in best if method not in leading]
        return sorted([*leading, *others[: FIRST - len(leading)]])

    @property
    def seed_count(self) -> int:
        return int(self.full["seed"].nunique())

    @property
    def first(self) -> str:
        """The reference, or where it has no point the first by name that has."""
        return self.reference if self.reference in self.methods else next(iter(self.methods), self.reference)

    @cached_property
    def fronts(self) -> dict[str, dict[str, dict[int, Steps]]]:
        """Method to data set to seed to its whole curve, with the choices for the budgets of the grid."""
        between = [
            (self.suite, record.method, record.dataset, record.seed, "ok", point.macs, value)
            for record in self.ordered_records
            for point in record.grid
            if point.macs is not None and (value := record.value(point)) is not None
        ]
        columns = ["suite", *frames.CELL, "status", "macs", "accuracy"]
        return frames.step_fronts(self.full, pd.DataFrame(between, columns=columns))

    @cached_property
    def area_definition(self) -> str:
        """The beginning of a sentence that says what the areas are."""
        if self.suite not in frames.suites_on_grid(self.full):
            return f"mean {self.score.title} over log2 MACs between the smallest and the largest budget, by steps"
        count = max((len(record.grid) for record in self.ordered_records), default=0)
        asked = f"{count} budgets" if count else "budgets"
        return f"mean {self.score.title} of the choices for {asked} from the smallest to the largest in equal ratios"

    @cached_property
    def bounds(self) -> dict[str, Bounds | None]:
        """MACs of the smallest and the largest budget, by data set."""
        return {str(name): frames.bounds_of(here) for name, here in self.full.groupby("dataset")}

    @cached_property
    def suspicious(self) -> frozenset[tuple[str, float]]:
        """Methods and budgets at which a point is."""
        odd = self.points[self.points["status"] == "suspicious"]
        places = zip(odd["method"], odd["budget"], strict=True)
        return frozenset((str(method), float(budget)) for method, budget in places)

    @cached_property
    def unequal(self) -> dict[CellKey, float]:
        return marking.unequal_budgets(self.points, self.regime)

    @cached_property
    def commits(self) -> tuple[str, ...]:
        names = {str(record.environment.get("commit") or "unknown") for record in self.ordered_records}
        return tuple(sorted(names)) or ("unknown",)

    @cached_property
    def resumed(self) -> frozenset[CellKey]:
        """Cells that were started more than once: their seconds hold whatever was lost in between."""
        restarted = (record for record in self.ordered_records if record.attempts > 1)
        return frozenset((record.method, record.dataset, record.seed) for record in restarted)

    @cached_property
    def alone(self) -> list[str]:
        """Methods that train a model of its own for each budget, by the callable that their records name."""
        callables = {record.method: record.callable for record in self.ordered_records}
        return [name for name in self.methods if callables.get(name, name).startswith(ALONE)]

    @cached_property
    def ordered_records(self) -> list[Record]:
        """The records of the points' own cells, by method, data set and seed."""
        cells = set(self.points["cell"].dropna()) & self.records.keys()
        return sorted((self.records[cell] for cell in cells), key=lambda one: (one.method, one.dataset, one.seed))

    def diagnostics(self, key: str) -> Iterator[tuple[Record, Any]]:
        """Values that methods reported under ``key``, by method, data set and seed."""
        return ((record, record.diagnostics[key]) for record in self.ordered_records if key in record.diagnostics)

    def full_macs(self, dataset: str | None = None) -> float | None:
        """MACs of the full model; they differ a little between data sets, by their classes."""
        here = self.points if dataset is None else self.points[self.points["dataset"] == dataset]
        known = here["full_macs"].dropna().astype(float)
        return float(known.mean()) if len(known) else None

    def seeds_text(self, dataset: str | None = None) -> str:
        """ "3 seeds", or "2 to 3 seeds" where methods or data sets have different ones."""
        measured = frames.accuracies(self.points)
        here = measured if dataset is None else measured[measured["dataset"] == dataset]
        counts = here.groupby(["method", "dataset"])["seed"].nunique()
        low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
        word = "seed" if high == 1 else "seeds"
        return f"{high} {word}" if low == high else f"{low} to {high} {word}"

    def source(self, interval: str = "none", dataset: str | None = None) -> str:
        """The line below every table."""
        sets = 1 if dataset is not None else len(self.datasets)
        commits = ", ".join(short_commit(commit) for commit in self.commits)
        which = "" if dataset is None else f" --dataset {shlex.quote(dataset)}"
        command = f"eavit-bench why {self.suite} --method METHOD --budget BUDGET{which}"
        return (
            f"Suite `{self.suite}`, commit {commits}; {sets} data set{'' if sets == 1 else 's'}, "
            f"{self.seeds_text(dataset)}; interval: {interval}. To the cells of a number: `{command}`."
        )


def short_commit(commit: str) -> str:
    head, plus, rest = commit.partition("+")
    return f"{head[:12]}{plus}{rest}"
