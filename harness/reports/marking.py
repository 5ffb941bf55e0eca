"""Marks of a table: numbers that are best, and numbers that are not comparable because more or less was spent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from harness.reports.document.blocks import Look
from harness.results.results import CellKey
from harness.statistics import frames, intervals

TOLERANCE = 0.05  # of training MACs, in the regime of equal MACs


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks of one budget. ``best``: shown to be better than every other. ``ties``: the best by its mean and all
    that are not distinguished from it. At most one of the two is there; where none is, ``why`` says why.
    """

    best: str | None = None
    ties: frozenset[str] = frozenset()
    why: str = ""

    def look(self, method: str) -> Look:
        return "best" if method == self.best else "tie" if method in self.ties else "plain"


def marks_by_set(points: pd.DataFrame, unequal: Collection[CellKey] = ()) -> dict[tuple[str, float], Marks]:
    """Marks by (data set, budget). Methods with a suspicious or an ``unequal`` seed there are excluded."""
    measured = _candidates(points, unequal)
    groups = measured.groupby(["dataset", "budget"])
    return {(str(here["dataset"].iloc[0]), float(here["budget"].iloc[0])): _marks(here) for _, here in groups}


def marks_over_sets(points: pd.DataFrame, unequal: Collection[CellKey] = ()) -> dict[float, Marks]:
    """Marks by budget, of the mean over all data sets; methods that were not measured on every set are excluded."""
    measured = _candidates(points, unequal)
    sets = points["dataset"].nunique()
    marks = {}
    for _, here in measured.groupby("budget"):
        there = here.groupby("method")["dataset"].nunique()
        marks[float(here["budget"].iloc[0])] = _marks(here[here["method"].isin(there.index[there == sets])])
    return marks


def _candidates(points: pd.DataFrame, unequal: Collection[CellKey]) -> pd.DataFrame:
    """Measured points; without the budgets at which a seed of the method is suspicious or unequal, on any data set."""
    measured = frames.accuracies(points)
    odd = [cell in unequal for cell in zip(*(measured[key] for key in frames.CELL), strict=True)]
    excluded = (measured["status"] == "suspicious") | pd.Series(odd, index=measured.index, dtype=bool)
    return measured[~excluded.groupby([measured[key] for key in frames.KEYS]).transform("any")]


def _marks(here: pd.DataFrame) -> Marks:
    """``here``: of one budget, of one data set or more that every method has."""
    wide = here.pivot(index=["dataset", "seed"], columns="method", values="accuracy").sort_index()
    if len(wide.columns) < 2:
        return Marks(why="fewer than two methods to compare")
    means = wide.groupby(level="dataset").mean().mean()
    first = min(wide.columns, key=lambda name: (-means[name], name))
    rivals = {str(name): _gap(wide[first] - wide[name]) for name in wide.columns if name != first}
    silent = {name: gap.why for name, gap in rivals.items() if not gap.given}
    if silent:
        return Marks(why="; ".join(f"{first} against {name}: {why}" for name, why in sorted(silent.items())))
    # Beating all rivals needs every single interval above 0, so no correction for their number is due.
    ties = {name for name, gap in rivals.items() if gap.low is None or gap.low <= 0}
    return Marks(ties=frozenset({str(first), *ties})) if ties else Marks(best=str(first))


def _gap(differences: pd.Series) -> intervals.Interval:
    """Interval of a difference by data set and seed. Seeds that all give 0 are a tie, although they have no spread."""
    known = differences.dropna()
    groups = [group.tolist() for _, group in known.groupby(level="dataset")]
    if len(groups) < differences.index.get_level_values("dataset").nunique():
        return replace(intervals.over_seeds([]), why="no seed in common")
    level = min(map(len, groups)) > 1 and known.abs().max() <= intervals.TIE
    return intervals.counted(groups) if level else intervals.these_sets(groups)


# --- equal budgets ----------------------------------------------------------------------------------------------


def unequal_budgets(points: pd.DataFrame, regime: str) -> dict[CellKey, float]:
    """Cells whose training MACs are off the common ones of their data set and seed by more than 5 %, and by how much.

    Common is the median over methods; of an even number, both middle ones. Only in the regime of equal MACs.
    """
    if regime != "equal_macs":
        return {}
    cells = points.dropna(subset=["train_macs"]).drop_duplicates(frames.CELL)
    unequal: dict[CellKey, float] = {}
    for _, here in cells.groupby(["dataset", "seed"]):
        spent = {str(name): float(macs) for name, macs in zip(here["method"], here["train_macs"], strict=True)}
        for name, off in _off(spent).items():
            unequal[name, str(here["dataset"].iloc[0]), int(here["seed"].iloc[0])] = off
    return unequal


def _off(spent: Mapping[str, float]) -> dict[str, float]:
    ordered = sorted(spent.values())
    middle = {ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]} - {0.0}
    furthest = {
        name: max((macs / common - 1 for common in middle), key=abs, default=0.0) for name, macs in spent.items()
    }
    return {name: off for name, off in furthest.items() if abs(off) > TOLERANCE}
