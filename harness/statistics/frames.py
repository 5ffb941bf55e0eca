"""Points to numbers: frames of ``points.csv``, of one suite or several, to what the other modules here work on.

One trained family is one replicate for all its budgets, so everything is first computed within a (method, data set,
seed) and only then over seeds. What is missing is counted, never filled in; nothing depends on the order of rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from harness.statistics import breakeven, curves, intervals
from harness.statistics.curves import Bounds, Steps

MEASURED = ("ok", "suspicious")
STATUSES = ("ok", "suspicious", "unreachable", "failed", "oom", "nan", "timeout", "killed", "skipped", "missing")
KEYS = ["method", "dataset", "budget"]
CELL = ["method", "dataset", "seed"]
SLACK = 1e-9  # relative: a budget such as 0.2 has no exact binary value
Planned = Collection[tuple[str, str, int]]  # (method, data set, seed) of every cell of the suite


# --- points -----------------------------------------------------------------------------------------------------


def accuracies(points: pd.DataFrame) -> pd.DataFrame:
    """The measured points, with their accuracy: ``ok`` and ``suspicious`` (a true number that needs a look)."""
    return points[points["status"].isin(MEASURED)].astype({"accuracy": float, "macs": float})


def completed(points: pd.DataFrame, planned: Planned = (), budgets: Collection[float] = ()) -> pd.DataFrame:
    """Every (method, data set, seed, budget) that each suite's points span, absent ones ``missing``; sorted.

    ``planned`` cells and ``budgets`` are there too, in every suite of the points, whether or not any has a point.
    """
    parts = [_grid(group, planned, budgets) for _, group in points.groupby("suite")]
    return pd.concat(parts, ignore_index=True) if parts else points


def _grid(points: pd.DataFrame, planned: Planned, budgets: Collection[float]) -> pd.DataFrame:
    seen = [sorted({*points[key], *(cell[at] for cell in planned)}) for at, key in enumerate(CELL)]
    every = sorted({*points["budget"], *budgets})
    spanned = pd.MultiIndex.from_product([*seen, every], names=[*CELL, "budget"]).to_frame(index=False)
    if planned:
        spanned = spanned[pd.MultiIndex.from_frame(spanned[CELL]).isin(list(planned))]
    full = spanned.merge(points, how="outer" if planned else "left", on=[*CELL, "budget"], validate="one_to_one")
    full["status"] = full["status"].fillna("missing")
    full["suite"] = points["suite"].iloc[0]
    return full.sort_values([*CELL, "budget"], ignore_index=True)


def accuracy_summary(points: pd.DataFrame) -> pd.DataFrame:
    """One row a (suite, method, data set, budget): mean accuracy over seeds, t interval, count of every status.

    Columns: ``suite, method, dataset, budget, seeds`` (measured), ``mean, low, high, half`` (missing where there is
    nothing to say; ``low`` and ``high`` cut to [0, 1]), ``macs`` (mean of the choices) and one count for each of
    ``STATUSES``.
    """
    full, keys = completed(points), ["suite", *KEYS]
    counts = pd.crosstab([full[key] for key in keys], full["status"]).reindex(columns=list(STATUSES), fill_value=0)
    groups = accuracies(full).groupby(keys)
    summary = groups["accuracy"].agg(seeds="count", mean="mean", std="std").join(groups["macs"].mean())
    summary = summary.reindex(counts.index).fillna({"seeds": 0}).astype({"seeds": int})
    reach = special.stdtrit((summary["seeds"] - 1).clip(lower=1).to_numpy(), (1 + intervals.LEVEL) / 2)
    spread = summary.pop("std")
    half = (reach * spread / np.sqrt(summary["seeds"])).where(spread > intervals.TIE)
    low, high = ((summary["mean"] + sign * half).clip(0, 1) for sign in (-1, 1))
    table: pd.DataFrame = summary.assign(low=low, high=high, half=half)
    return table.join(counts).reset_index()


def by_cell(rows: pd.DataFrame, column: str) -> dict[str, dict[str, dict[int, float]]]:
    """The column of one row a cell: method to data set to seed."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for method, name, seed, value in zip(*(rows[key].tolist() for key in (*CELL, column)), strict=True):
        values.setdefault(str(method), {}).setdefault(str(name), {})[int(seed)] = float(value)
    return values


def set_scores(points: pd.DataFrame, budget: float) -> tuple[dict[str, list[float]], tuple[str, ...]]:
    """Input of ranks: method to mean accuracy by set, over those sets where every method has one; and those sets."""
    here = accuracies(points)
    here = here[here["budget"] == budget]
    wide = here.pivot_table(index="dataset", columns="method", values="accuracy", aggfunc="mean")
    wide = wide.reindex(columns=sorted(points["method"].unique())).dropna().sort_index()
    return {str(name): wide[name].tolist() for name in wide.columns}, tuple(map(str, wide.index))


# --- denominators -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Denominator:
    """``states``: cells by their worst status, in the order of ``STATUSES``; ``ok`` has an answer to every budget."""

    planned: int
    states: Mapping[str, int]

    @property
    def whole(self) -> int:
        return self.states.get("ok", 0) + self.states.get("suspicious", 0)

    @property
    def text(self) -> str:
        """Text such as "54 of 56 cells complete; 2 oom"."""
        rest = "".join(f"; {count} {state}" for state, count in self.states.items() if state != "ok")
        return f"{self.whole} of {self.planned} cells complete{rest}"


def denominator(full: pd.DataFrame, planned: Planned = ()) -> Denominator:
    """Count the points as :func:`completed` gives them; where there are none, the cells that are ``planned``."""
    if full.empty:
        return Denominator(len(planned), {"missing": len(planned)} if planned else {})
    order = {status: place for place, status in enumerate(STATUSES)}
    cells = full.assign(order=full["status"].replace("unreachable", "ok").map(order))
    worst = cells.groupby(["suite", *CELL])["order"].max().value_counts()
    return Denominator(int(worst.sum()), {state: int(worst[place]) for state, place in order.items() if place in worst})


def worst_case_bounds(
    full: pd.DataFrame, method: str, budget: float, chance: Mapping[str, float]
) -> tuple[float, float] | None:
    """Bounds of the mean of set means of accuracy, whatever the cells that have no number would have given.

    ``full``: as :func:`completed` gives them. For the lower bound each absent number is guessing (``chance`` by set, 0
    where not given: what a method without an answer counts as everywhere here), for the upper bound it is 1.
    Unreachable is an answer and counts as guessing in both.
    """
    low, high = (float(ends.mean()) for ends in _filled(full[full["budget"] == budget], method, chance))
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def _filled(points: pd.DataFrame, method: str, chance: Mapping[str, float]) -> tuple[pd.Series, pd.Series]:
    """Set means with what is absent at its lowest, and at its highest."""
    here = points[points["method"] == method]
    floor = here["dataset"].map(lambda name: chance.get(name, 0.0)).astype(float)
    known = here["accuracy"].astype(float).where(here["status"].isin(MEASURED))
    known = known.mask(here["status"] == "unreachable", floor)
    low, high = (known.fillna(fill).groupby(here["dataset"]).mean() for fill in (floor, 1.0))
    return low, high


# --- curves -----------------------------------------------------------------------------------------------------


def chance_by_set(points: pd.DataFrame) -> dict[str, float]:
    """Score of guessing on each data set, where a record has it: the column ``chance``, or one over its classes."""
    levels = points["chance"] if "chance" in points else pd.Series(math.nan, points.index)
    accuracy = points["score"].isna() if "score" in points else pd.Series(True, points.index)
    guessed = levels.astype(float).fillna((1 / points["classes"].astype(float)).where(accuracy))
    known = guessed.groupby(points["dataset"]).max().dropna()
    return {str(name): float(level) for name, level in known.items()}


def curve_areas(points: pd.DataFrame, chance: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row a (suite, method, data set, seed): these columns and ``area`` (0..1).

    A suite whose cells were asked at the budgets of a grid (column ``area``) has their mean accuracy there. Else it is
    the area under the step front of the points, over log2 MACs between the smallest and the largest budget. A budget
    that failed or is missing leaves the area missing: a curve with a hole is no curve. An unreachable budget counts as
    guessing (``chance`` by set, 0 where not given).
    """
    columns, full = ["suite", *CELL], completed(points)
    areas = _front_areas(full, chance or {})
    if "area" in full:
        dense = full.astype({"area": float}).groupby(columns)["area"].first()
        there = areas.join(dense.rename("area_on_grid"), on=columns)
        areas["area"] = there["area_on_grid"].where(there["suite"].isin(suites_on_grid(full)), there["area"])
    return areas


def suites_on_grid(points: pd.DataFrame) -> list[str]:
    """Suites whose areas are means over a grid of budgets: every cell with an answer to all budgets has one."""
    if "area" not in points:
        return []
    cells = [points[key] for key in ("suite", *CELL)]
    answered = points["status"].isin([*MEASURED, "unreachable"]).groupby(cells).transform("all")
    whole = points[answered]
    known = whole["area"].notna().groupby(whole["suite"]).all()
    return [str(suite) for suite in known.index[known]]


def _front_areas(full: pd.DataFrame, chance: Mapping[str, float]) -> pd.DataFrame:
    columns, rows = ["suite", *CELL], []
    limits = {key: bounds_of(here) for key, here in full.groupby(["suite", "dataset"])}
    for key, curve in _curves(full).items():
        suite, _, dataset, _ = key
        ends, floor = limits[suite, dataset], chance.get(dataset, 0.0)
        value = math.nan if curve is None or ends is None else curves.area(curve, ends, floor)
        rows.append({**dict(zip(columns, key, strict=True)), "area": value})
    return pd.DataFrame(rows, columns=[*columns, "area"]).sort_values(columns, ignore_index=True)


def reached_from(full: pd.DataFrame) -> dict[str, float]:
    """Smallest budget of each method from which it reaches every one on all data sets and seeds; inf: there is none."""
    budgets = sorted(map(float, full["budget"].unique()))
    lost = full[full["status"] == "unreachable"].groupby("method")["budget"].max()
    return {
        str(method): next((budget for budget in budgets if budget > lost.get(method, -math.inf)), math.inf)
        for method in full["method"].unique()
    }


def bounds_of(points: pd.DataFrame) -> Bounds | None:
    """MACs of the smallest and the largest budget on one data set; None: the full model's are unknown."""
    full = points["full_macs"].dropna()
    low, high = float(points["budget"].min()), float(points["budget"].max())
    return None if full.empty or low >= high else (float(full.iloc[0]) * low, float(full.iloc[0]) * high)


def _curves(full: pd.DataFrame) -> dict[tuple[str, str, str, int], Steps | None]:
    """Curves by suite, method, data set and seed; None where a budget has no answer."""
    points: dict[tuple[str, str, str, int], list[tuple[float, float]] | None] = {}
    names = (*(full[key] for key in ("suite", *CELL, "status")), full["macs"].astype(float), full["accuracy"])
    for suite, method, dataset, seed, status, macs, accuracy in zip(*names, strict=True):
        here = points.setdefault((str(suite), str(method), str(dataset), int(seed)), [])
        if status not in (*MEASURED, "unreachable"):
            points[str(suite), str(method), str(dataset), int(seed)] = None
        elif here is not None and status in MEASURED:
            here.append((macs, float(accuracy)))
    return {
        key: None if values is None else curves.steps([at for at, _ in values], [value for _, value in values])
        for key, values in points.items()
    }


def step_fronts(points: pd.DataFrame, between: pd.DataFrame | None = None) -> dict[str, dict[str, dict[int, Steps]]]:
    """Method to data set to seed to its whole curve, of one suite; cells with a hole are left out.

    ``between``: further measured choices, for budgets between those of the points.
    """
    fronts: dict[str, dict[str, dict[int, Steps]]] = {}
    for (_, method, dataset, seed), curve in _curves(pd.concat([completed(points), between])).items():
        if curve is not None:
            fronts.setdefault(method, {}).setdefault(dataset, {})[seed] = curve
    return fronts


# --- budgets and cost -----------------------------------------------------------------------------------------------


def budget_use(points: pd.DataFrame) -> pd.DataFrame:
    """Share of its budget that each measured choice uses, added as column ``use`` (above 1: over budget)."""
    values = accuracies(points)
    return values.assign(use=values["macs"] / (values["budget"] * values["full_macs"].astype(float)))


def cost_break_even(points: pd.DataFrame, elastic: str, retrained: str, column: str) -> breakeven.BreakEven:
    """Number of sizes from which ``elastic`` costs less; ``column``: ``train_macs`` or ``train_seconds``.

    A cell of ``retrained`` trained one model for each budget it answered; its cost is shared among these equally.
    """
    mine = accuracies(points)
    cells = by_cell(mine.dropna(subset=[column]).drop_duplicates(CELL), column)
    whole, total = (cells.get(name, {}) for name in (elastic, retrained))
    sizes = mine[mine["method"] == retrained].groupby(["dataset", "seed"])["budget"].nunique()
    names = sorted(whole.keys() & total.keys())
    seeds = {name: sorted(whole[name].keys() & total[name].keys()) for name in names}
    names = [name for name in names if seeds[name]]
    costs = [[whole[name][seed] for seed in seeds[name]] for name in names]
    alone = [[total[name][seed] / int(sizes[name, seed]) for seed in seeds[name]] for name in names]
    interval = intervals.counted if column == "train_macs" else intervals.these_sets
    return breakeven.break_even(costs, alone, interval)
