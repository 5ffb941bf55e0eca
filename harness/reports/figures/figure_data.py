"""What figures are made of: the points of a results folder, and what its methods reported of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness.reports.figures.style import looks, shown
from harness.results.points import read_records
from harness.results.record import Record
from harness.statistics import frames

Groups = Mapping[str, Mapping[str, Sequence[float]]]  # method to set to one value a seed
ALONE = "fixed_"  # how recipes are called that train a model of its own for each budget


@dataclass(frozen=True)
class Reported:
    """A figure that somebody else published: drawn hollow, on request, and called so. ``accuracy`` in 0..1."""

    method: str
    dataset: str
    macs: float
    accuracy: float


@dataclass(frozen=True)
class Material:
    """``points`` in the order of cells and budgets. ``reference``: the method that others are compared with."""

    points: pd.DataFrame
    records: Mapping[str, Record]
    reference: str
    alone: tuple[str, ...] = ()  # methods that train a model of its own for each budget
    chance: Mapping[str, float] = field(default_factory=dict)
    reported: tuple[Reported, ...] = ()

    @property
    def methods(self) -> list[str]:
        return sorted(map(str, self.points["method"].unique()))

    @property
    def datasets(self) -> list[str]:
        return sorted(map(str, self.points["dataset"].unique()))

    @property
    def seeds(self) -> int:
        return int(self.points["seed"].nunique())

    @property
    def budgets(self) -> list[float]:
        return sorted(map(float, self.points["budget"].unique()))

    @property
    def looks(self) -> dict[str, dict[str, Any]]:
        return looks(self.methods)

    def full_macs(self, dataset: str | None = None) -> float | None:
        """Of the full model; it differs a little between sets, by their classes."""
        here = self.points if dataset is None else self.points[self.points["dataset"] == dataset]
        known = here["full_macs"].dropna().astype(float)
        return float(known.mean()) if len(known) else None

    def told(self, key: str) -> Iterator[tuple[Record, Any]]:
        """What methods reported under ``key``, by method, set and seed."""
        ordered = sorted(self.records.values(), key=lambda record: (record.method, record.dataset, record.seed))
        return ((record, record.diagnostics[key]) for record in ordered if key in record.diagnostics)


def read(
    folder: Path,
    reference: str | None = None,
    alone: Sequence[str] | None = None,
    reported: Sequence[Reported] = (),
) -> Material:
    """From ``points.csv`` and, where it is there, ``records.jsonl``. Without a reference: the method of the first row.

    Raises OSError or ValueError where the points are not there or are none; StoreError where a record is damaged.
    """
    points = frames.read_points(folder / "points.csv")
    path = folder / "records.jsonl"
    return of(points, read_records(path) if path.exists() else {}, reference, alone, reported)


def of(
    points: pd.DataFrame,
    records: Mapping[str, Record],
    reference: str | None = None,
    alone: Sequence[str] | None = None,
    reported: Sequence[Reported] = (),
) -> Material:
    first = str(points["method"].iloc[0]) if len(points) else ""
    named = {*points["method"].unique()}
    if reference is not None and reference not in named:
        raise ValueError(f"reference = {reference!r}: no such method, there are {', '.join(sorted(named)) or 'none'}")
    singles = tuple(sorted(alone if alone is not None else _trained_alone(records)))
    chance = {name: 1 / count for name, count in frames.classes(points).items() if count}
    ordered = points.sort_values([*frames.CELL, "budget"], ignore_index=True)
    return Material(ordered, records, reference or first, singles, chance, tuple(reported))


def _trained_alone(records: Mapping[str, Record]) -> set[str]:
    found = set()
    for record in records.values():
        method = record.identity.get("method")
        use = method.get("use") if isinstance(method, dict) else None
        if isinstance(use, str) and use.rpartition(":")[2].startswith(ALONE):
            found.add(record.method)
    return found


def absent(points: pd.DataFrame, statuses: Sequence[str] | None = None) -> list[str]:
    """What curves do not show: unreachable, failed and missing points, one line a status and method."""
    if points.empty:
        return []
    full, lines = frames.completed(points), []
    odd = full[~full["status"].isin(frames.MEASURED if statuses is None else statuses)]
    for (status, method), group in odd.groupby(["status", "method"]):
        places = [
            f"{shown(str(dataset))} at {', '.join(f'{100 * b:g} %' for b in sorted(here['budget'].unique()))}"
            for dataset, here in group.groupby("dataset")
        ]
        lines.append(f"{status}: {shown(str(method))} ({'; '.join(places)})")
    return lines


def not_shown(points: pd.DataFrame) -> list[str]:
    """:func:`absent` in short, for the line below a figure: points by status and method."""
    if points.empty:
        return []
    full = frames.completed(points)
    odd = full[~full["status"].isin(frames.MEASURED)]
    parts = [
        f"{status}: "
        + ", ".join(f"{shown(str(name))} {len(group)} of {int((full['method'] == name).sum())}" for name, group in here)
        for status, here in ((status, odd[odd["status"] == status].groupby("method")) for status in frames.STATUSES)
        if len(here)
    ]
    return [f"Not drawn (points without a number): {'; '.join(parts)}."] if parts else []


def areas(material: Material) -> Groups:
    """Under the curves, one value a cell; a cell with a hole has none."""
    found: dict[str, dict[str, list[float]]] = {}
    table = frames.areas(material.points, material.chance) if len(material.points) else pd.DataFrame()
    whole = table.dropna() if len(table) else pd.DataFrame(columns=["method", "dataset", "area"])
    for method, dataset, area in zip(whole["method"], whole["dataset"], whole["area"], strict=True):
        found.setdefault(str(method), {}).setdefault(str(dataset), []).append(float(area))
    return found
