"""Points to numbers: frames of ``points.csv``, of one suite or several, to the values that the rooms below work on.

One trained supernet is one replicate for all its budgets, so everything is first computed within a (method, data set,
seed) and only then over seeds. What is missing is counted, never filled in; nothing depends on the order of rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats as distributions

from harness.statistics import agreement as agreements
from harness.statistics import breakeven, curves, intervals, pairs
from harness.statistics.agreement import SLACK as SLACK
from harness.statistics.agreement import Agreement, Discipline
from harness.statistics.curves import Bounds, Steps
from harness.statistics.curves import front as front
from harness.statistics.pairs import Comparison

MEASURED = ("ok", "suspicious")
STATUSES = ("ok", "suspicious", "unreachable", "failed", "oom", "nan", "timeout", "killed", "skipped", "missing")
KEYS = ["method", "dataset", "budget"]
CELL = ["method", "dataset", "seed"]
NEEDED = (
    *CELL, "suite", "budget", "status", "macs", "n", "accuracy", "train_macs", "train_seconds", "cell", "full_macs"
)  # fmt: skip
CONFIDENCE = intervals.LEVEL
Planned = Collection[tuple[str, str, int]]  # (method, data set, seed) of every cell of the suite


# --- points -----------------------------------------------------------------------------------------------------


def read_points(path: Path | str) -> pd.DataFrame:
    """``points.csv`` with its types: cell ids are text (``12e45…`` is no number), and so is the status ``nan``."""
    text = ("suite", "method", "dataset", "status", "key", "cell", "choice_hash", "reason")
    points = pd.read_csv(path, dtype=dict.fromkeys(text, "str"), keep_default_na=False, na_values=[""])
    absent = [column for column in (*NEEDED, "reason") if column not in points]
    if absent:
        raise ValueError(f"{path}: not a table of points, without the columns {', '.join(absent)}")
    return points


def accuracies(points: pd.DataFrame) -> pd.DataFrame:
    """The measured points, with their accuracy: ``ok`` and ``suspicious`` (a true number that needs a look)."""
    return points[points["status"].isin(MEASURED)].astype({"accuracy": float, "macs": float})


def completed(points: pd.DataFrame, planned: Planned = ()) -> pd.DataFrame:
    """Every (method, data set, seed, budget) that each suite's points span, absent ones ``missing``; sorted.

    ``planned`` cells are there too, in every suite of the points, whether or not any of them has a point.
    """
    parts = [_grid(group, planned) for _, group in points.groupby("suite")]
    return pd.concat(parts, ignore_index=True) if parts else points


def _grid(points: pd.DataFrame, planned: Planned) -> pd.DataFrame:
    seen = [sorted({*points[key], *(cell[at] for cell in planned)}) for at, key in enumerate(CELL)]
    budgets = sorted(points["budget"].unique())
    spanned = pd.MultiIndex.from_product([*seen, budgets], names=[*CELL, "budget"]).to_frame(index=False)
    if planned:
        spanned = spanned[pd.MultiIndex.from_frame(spanned[CELL]).isin(list(planned))]
    full = spanned.merge(points, how="outer" if planned else "left", on=[*CELL, "budget"], validate="one_to_one")
    full["status"] = full["status"].fillna("missing")
    full["suite"] = points["suite"].iloc[0]
    return full.sort_values([*CELL, "budget"], ignore_index=True)


def summary(points: pd.DataFrame) -> pd.DataFrame:
    """One row a (suite, method, data set, budget): mean accuracy over seeds, t interval, count of every status.

    Columns: ``suite, method, dataset, budget, seeds`` (measured), ``mean, low, high, half`` (missing where there is
    nothing to say), ``macs`` (mean of the choices) and one count for each of ``STATUSES``.
    """
    full, keys = completed(points), ["suite", *KEYS]
    counts = pd.crosstab([full[key] for key in keys], full["status"]).reindex(columns=list(STATUSES), fill_value=0)
    groups = accuracies(full).groupby(keys)
    found = groups["accuracy"].agg(seeds="count", mean="mean", std="std").join(groups["macs"].mean())
    found = found.reindex(counts.index).fillna({"seeds": 0}).astype({"seeds": int})
    reach = distributions.t.ppf((1 + CONFIDENCE) / 2, (found["seeds"] - 1).clip(lower=1))
    spread = found.pop("std")
    half = (reach * spread / np.sqrt(found["seeds"])).where(spread > intervals.TIE)
    table: pd.DataFrame = found.assign(low=found["mean"] - half, high=found["mean"] + half, half=half)
    return table.join(counts).reset_index()


def by_seed(points: pd.DataFrame, method: str, column: str, budget: float | None = None) -> dict[str, dict[int, float]]:
    """Data set to seed to value, of measured points: at a budget, or, without one, of whole cells (``train_macs``)."""
    here = accuracies(points)
    here = here[here["method"] == method].dropna(subset=[column])
    here = here.drop_duplicates(["dataset", "seed"]) if budget is None else here[here["budget"] == budget]
    twice = here.duplicated(["dataset", "seed"])
    if twice.any():
        raise ValueError(
            f"{method} at {budget}: a seed occurs twice on {here[twice]['dataset'].iloc[0]}; take one suite"
        )
    return {
        str(name): {int(seed): float(value) for seed, value in zip(group["seed"], group[column], strict=True)}
        for name, group in here.sort_values(["dataset", "seed"]).groupby("dataset")
    }


def at_budget(points: pd.DataFrame, budget: float) -> dict[str, dict[str, dict[int, float]]]:
    """Accuracies of one suite: method to data set to seed."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    here = accuracies(points[points["budget"] == budget])
    for method, name, seed, value in zip(*(here[key] for key in (*CELL, "accuracy")), strict=True):
        found.setdefault(str(method), {}).setdefault(str(name), {})[int(seed)] = float(value)
    return found


def paired(points: pd.DataFrame, a: str, b: str, dataset: str, budget: float) -> list[float]:
    """Accuracy of A minus accuracy of B for every seed that both have, in the order of the seeds."""
    mine, other = (by_seed(points, name, "accuracy", budget).get(dataset, {}) for name in (a, b))
    return pairs.paired(mine, other)


def differences(points: pd.DataFrame, a: str, b: str, column: str, budget: float | None) -> dict[str, list[float]]:
    """By data set, A minus B for every seed that both have; sets without such a seed are left out."""
    mine, other = (by_seed(points, name, column, budget) for name in (a, b))
    found = {name: pairs.paired(mine[name], other[name]) for name in sorted(mine.keys() & other.keys())}
    return {name: values for name, values in found.items() if values}


def compare(points: pd.DataFrame, a: str, b: str, budget: float, rng: np.random.Generator) -> Comparison:
    """Accuracy of A against B at one budget, over all sets that both have."""
    return pairs.compare(differences(points, a, b, "accuracy", budget), rng)


def scores(points: pd.DataFrame, budget: float) -> tuple[dict[str, list[float]], tuple[str, ...]]:
    """What ranks need: method to mean accuracy by set, over those sets where every method has one; and those sets."""
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
        """For example "54 of 56 cells; 2 oom"."""
        rest = "".join(f"; {count} {state}" for state, count in self.states.items() if state != "ok")
        return f"{self.whole} of {self.planned} cells{rest}"


def denominator(points: pd.DataFrame, planned: Planned = ()) -> Denominator:
    """Of the cells that are ``planned``, without those of the cells that the points span."""
    full = completed(points, planned)
    if full.empty:
        return Denominator(len(planned), {"missing": len(planned)} if planned else {})
    order = {status: place for place, status in enumerate(STATUSES)}
    cells = full.assign(order=full["status"].replace("unreachable", "ok").map(order))
    worst = cells.groupby(["suite", *CELL])["order"].max().value_counts()
    return Denominator(int(worst.sum()), {state: int(worst[place]) for state, place in order.items() if place in worst})


def worst_case(
    points: pd.DataFrame,
    a: str,
    budget: float,
    b: str | None = None,
    *,
    chance: Mapping[str, float],
    planned: Planned = (),
) -> tuple[float, float] | None:
    """Bounds of a headline of one suite, whatever the cells that have no number would have given.

    The headline is the mean of set means of accuracy, or of A minus B. For the lower bound each absent number is
    guessing (``chance`` by set, 0 where not given: what a method without an answer counts as everywhere here), for the
    upper bound it is 1; for B it is the other way round. Unreachable is an answer and counts as guessing in both.
    """
    full = completed(points, planned)
    full = full[full["budget"] == budget]
    low_a, high_a = _filled(full, a, chance)
    low_b, high_b = _filled(full, b, chance) if b is not None else (low_a * 0, high_a * 0)
    low, high = (float(gap.mean()) for gap in (low_a - high_b, high_a - low_b))
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


def classes(points: pd.DataFrame) -> dict[str, int]:
    """Number of classes of each data set, where a record told it."""
    if "classes" not in points:
        return {}
    known = points.groupby("dataset")["classes"].max().dropna()
    return {str(name): int(count) for name, count in known.items()}


def areas(
    points: pd.DataFrame, chance: Mapping[str, float] | None = None, bounds: tuple[float, float] | None = None
) -> pd.DataFrame:
    """Area under the step front, one row a (suite, method, data set, seed): these columns and ``area``.

    ``bounds``: two budgets, the smallest and the largest where none are declared; in MACs of the full model. A budget
    that failed or is missing leaves the area missing: a curve with a hole is no curve. An unreachable budget counts as
    ``chance`` (0 where not given).
    """
    columns, rows, full = ["suite", *CELL], [], completed(points)
    limits = {key: bounds_of(here, bounds) for key, here in full.groupby(["suite", "dataset"])}
    for key, curve in _curves(full).items():
        suite, _, dataset, _ = key
        ends, floor = limits[suite, dataset], (chance or {}).get(dataset, 0.0)
        value = math.nan if curve is None or ends is None else curves.area(curve, ends, floor)
        rows.append({**dict(zip(columns, key, strict=True)), "area": value})
    return pd.DataFrame(rows, columns=[*columns, "area"]).sort_values(columns, ignore_index=True)


def bounds_of(points: pd.DataFrame, declared: tuple[float, float] | None = None) -> Bounds | None:
    """MACs of the smallest and the largest budget on one data set; None: the full model's are unknown."""
    full = points["full_macs"].dropna() if "full_macs" in points else pd.Series(dtype=float)
    low, high = declared or (float(points["budget"].min()), float(points["budget"].max()))
    return None if full.empty or low >= high else (float(full.iloc[0]) * low, float(full.iloc[0]) * high)


def _curves(full: pd.DataFrame) -> dict[tuple[str, str, str, int], Steps | None]:
    """By suite, method, data set and seed; None where a budget has no answer."""
    found: dict[tuple[str, str, str, int], list[tuple[float, float]] | None] = {}
    names = (*(full[key] for key in ("suite", *CELL, "status")), full["macs"].astype(float), full["accuracy"])
    for suite, method, dataset, seed, status, macs, accuracy in zip(*names, strict=True):
        here = found.setdefault((str(suite), str(method), str(dataset), int(seed)), [])
        if status not in (*MEASURED, "unreachable"):
            found[str(suite), str(method), str(dataset), int(seed)] = None
        elif here is not None and status in MEASURED:
            here.append((macs, float(accuracy)))
    return {
        key: None if values is None else curves.steps([at for at, _ in values], [value for _, value in values])
        for key, values in found.items()
    }


def fronts(points: pd.DataFrame, method: str) -> dict[str, dict[int, Steps]]:
    """Data set to seed to its whole curve; cells with a hole are left out."""
    return all_fronts(points).get(method, {})


def all_fronts(points: pd.DataFrame) -> dict[str, dict[str, dict[int, Steps]]]:
    """Of every method, of one suite."""
    found: dict[str, dict[str, dict[int, Steps]]] = {}
    for (_, method, dataset, seed), curve in _curves(completed(points)).items():
        if curve is not None:
            found.setdefault(method, {}).setdefault(dataset, {})[seed] = curve
    return found


# --- budgets, cost, agreement -------------------------------------------------------------------------------------


def use(points: pd.DataFrame) -> pd.DataFrame:
    """Share of its budget that each measured choice uses, added as column ``use`` (above 1: over budget)."""
    values = accuracies(points)
    return values.assign(use=values["macs"] / (values["budget"] * values["full_macs"].astype(float)))


def discipline(points: pd.DataFrame) -> dict[str, Discipline]:
    """By method, over all measured choices."""
    values = accuracies(points).dropna(subset=["macs", "full_macs"])
    return {
        str(name): agreements.discipline(
            *(group[key].astype(float).tolist() for key in ("macs", "budget", "full_macs"))
        )
        for name, group in values.groupby("method")
    }


def break_even(points: pd.DataFrame, elastic: str, retrained: str, column: str) -> breakeven.BreakEven:
    """From how many sizes on ``elastic`` costs less; ``column``: ``train_macs`` or ``train_seconds``.

    A cell of ``retrained`` trained one model for each budget it answered; its cost is shared among these equally.
    """
    whole, total = by_seed(points, elastic, column), by_seed(points, retrained, column)
    mine = accuracies(points)
    sizes = mine[mine["method"] == retrained].groupby(["dataset", "seed"])["budget"].nunique()
    names = sorted(whole.keys() & total.keys())
    seeds = {name: sorted(whole[name].keys() & total[name].keys()) for name in names}
    names = [name for name in names if seeds[name]]
    costs = [[whole[name][seed] for seed in seeds[name]] for name in names]
    alone = [[total[name][seed] / int(sizes[name, seed]) for seed in seeds[name]] for name in names]
    interval = intervals.counted if column == "train_macs" else intervals.these_sets
    return breakeven.break_even(costs, alone, interval)


def agreement(points: pd.DataFrame, shared: str, alone: str) -> dict[tuple[str, int], Agreement]:
    """By (data set, seed): accuracies of ``shared`` weights against the very same submodels trained ``alone``."""
    values = accuracies(points)
    where = ["dataset", "seed", "key"]  # two budgets may have one choice; it is one submodel
    left, right = (
        values[values["method"] == name].groupby(where, as_index=False)["accuracy"].mean() for name in (shared, alone)
    )
    both = left.merge(right, on=where, suffixes=("", "_alone")).sort_values(where)
    return {
        (str(dataset), int(seed)): agreements.agreement(group["accuracy"].tolist(), group["accuracy_alone"].tolist())
        for (dataset, seed), group in both.groupby(["dataset", "seed"])
    }
