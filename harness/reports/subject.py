"""What a report is about: the points of one suite, with all that says where they come from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from harness.reports import marking
from harness.reports.sanity import Rung
from harness.results.bitmaps import Bitmaps
from harness.results.record import Record
from harness.statistics import frames
from harness.statistics.curves import Bounds, Steps

Key = tuple[str, str, int]  # method, data set, seed


@dataclass(frozen=True)
class Subject:
    """``points``: as ``points.csv`` has them, in any order. ``planned``: every cell of the suite; empty: those there.

    ``cards``: method to its card; ``records`` by cell, as far as they were kept.
    """

    suite: str
    points: pd.DataFrame
    title: str = ""
    regime: str = "equal_steps"
    planned: frozenset[Key] = frozenset()
    records: Mapping[str, Record] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reported: Mapping[str, str] = field(default_factory=dict)  # name of a file -> its text
    reference: str = ""  # the method that others are compared with; "": the first by name
    bits: Bitmaps = field(default_factory=dict)

    @cached_property
    def full(self) -> pd.DataFrame:
        """The points in order, and a row ``missing`` for each that is not there."""
        return frames.completed(self.points.sort_values([*frames.CELL, "budget"], ignore_index=True), self.planned)

    @cached_property
    def chance(self) -> dict[str, float]:
        """Accuracy of guessing, by data set."""
        return {name: 1 / count for name, count in frames.classes(self.points).items()}

    @cached_property
    def areas(self) -> pd.DataFrame:
        return frames.areas(self.full, self.chance)

    @cached_property
    def datasets(self) -> list[str]:
        return sorted(map(str, self.full["dataset"].unique()))

    @cached_property
    def budgets(self) -> list[float]:
        return sorted(map(float, self.full["budget"].unique()))

    @cached_property
    def methods(self) -> list[str]:
        return sorted(map(str, self.full["method"].unique()))

    @property
    def first(self) -> str:
        return self.reference or next(iter(self.methods), "")

    @cached_property
    def fronts(self) -> dict[str, dict[str, dict[int, Steps]]]:
        """Method to data set to seed to its whole curve."""
        return frames.all_fronts(self.full)

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
    def unequal(self) -> dict[Key, float]:
        return marking.unequal(self.points, self.regime)

    @cached_property
    def commits(self) -> tuple[str, ...]:
        found = {str(record.environment.get("commit") or "unknown") for record in self.mine}
        return tuple(sorted(found)) or ("unknown",)

    @cached_property
    def resumed(self) -> frozenset[Key]:
        """Cells that were started more than once: their seconds hold whatever was lost in between."""
        return frozenset((record.method, record.dataset, record.seed) for record in self.mine if record.attempts > 1)

    @cached_property
    def uses(self) -> dict[str, str]:
        """Method to the callable that its records name; the name itself where there are none."""
        found = {name: name for name in self.methods}
        for record in self.mine:
            method = record.identity.get("method")
            if isinstance(method, Mapping) and "use" in method:
                found[record.method] = str(method["use"]).rpartition(":")[2]
        return found

    @cached_property
    def mine(self) -> list[Record]:
        """The records of the points' own cells."""
        return [self.records[cell] for cell in sorted(set(self.points["cell"].dropna()) & self.records.keys())]

    def seeds(self, dataset: str | None = None) -> str:
        """ "3 seeds", or "2 to 3 seeds" where methods or sets have different ones."""
        measured = frames.accuracies(self.points)
        here = measured if dataset is None else measured[measured["dataset"] == dataset]
        counts = here.groupby(["method", "dataset"])["seed"].nunique()
        low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
        word = "seed" if high == 1 else "seeds"
        return f"{high} {word}" if low == high else f"{low} to {high} {word}"

    def source(self, interval: str = "none", dataset: str | None = None) -> str:
        """The line below every table."""
        sets = 1 if dataset is not None else len(self.datasets)
        commits = ", ".join(short(commit) for commit in self.commits)
        which = "" if dataset is None else f" --dataset {shlex.quote(dataset)}"
        command = f"eavit-bench why {self.suite} --method METHOD --budget BUDGET{which}"
        return (
            f"Suite `{self.suite}`, commit {commits}; {sets} data set{'' if sets == 1 else 's'}, "
            f"{self.seeds(dataset)}; interval: {interval}. To the cells of a number: `{command}`."
        )


def short(commit: str) -> str:
    head, plus, rest = commit.partition("+")
    return f"{head[:12]}{plus}{rest}"
