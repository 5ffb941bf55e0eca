"""What the page carries as data: points by column, means over seeds with their intervals, every two methods compared.

Columns and numbers for names keep 2,000 cells small. All statistics are done here and none in the browser. Rows are
sorted by the suite's own order, so that theirs does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.statistics import frames, intervals, pairs
from harness.statistics.intervals import Interval
from harness.suite import Suite

AT_BUDGET = {"accuracy": "accuracy", "use": "use", "latency": "latency_ms", "params": "params"}  # metric: column
OF_CELL = ("area", "train_macs", "train_seconds")
COUNTED = ("use", "params", "train_macs")  # seeds that agree are exact
LONGEST = 2_000  # characters of a reason
Scope = Literal["these sets", "sets like these"]


@dataclass(frozen=True)
class Names:
    """Methods, data sets and budgets, in the suite's order, then those that only the points have."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    budgets: tuple[float, ...]


def names(points: pd.DataFrame, suite: Suite) -> Names:
    def every(own: Iterable[Any], seen: pd.Series) -> tuple[Any, ...]:
        first = tuple(own)
        return (*first, *sorted(set(seen.tolist()) - set(first)))

    return Names(
        every((method.name for method in suite.methods), points["method"]),
        every((entry.name for entry in suite.datasets), points["dataset"]),
        every(sorted(suite.budgets), points["budget"]),
    )


def ordered(points: pd.DataFrame, named: Names) -> pd.DataFrame:
    """With the numbers of the names as ``m``, ``d``, ``b``, and sorted by them and the seed."""
    keys = {"m": ("method", named.methods), "d": ("dataset", named.datasets), "b": ("budget", named.budgets)}
    numbers = {
        short: points[column].map({name: at for at, name in enumerate(values)})
        for short, (column, values) in keys.items()
    }
    return points.assign(**numbers).sort_values(["m", "d", "seed", "b"], ignore_index=True)


# --- points -------------------------------------------------------------------------------------------------------


class Words:
    """Every text once, and its number."""

    def __init__(self) -> None:
        self.all: dict[str, int] = {}

    def number(self, text: Any) -> int | None:
        missing = text is None or (isinstance(text, float) and math.isnan(text)) or text is pd.NA
        return None if missing else self.all.setdefault(str(text)[:LONGEST], len(self.all))

    def numbers(self, texts: Iterable[Any]) -> list[int | None]:
        return [self.number(text) for text in texts]


@lru_cache(maxsize=65_536)
def _wilson(correct: int, n: int) -> tuple[float | None, float | None]:
    found = intervals.wilson(correct, n)
    return found.low, found.high


def points_of(points: pd.DataFrame, words: Words) -> dict[str, list[Any]]:
    """``points`` as :func:`ordered` gives them; ``lo`` and ``hi``: Wilson's interval over the test images."""
    counted = [
        _wilson(int(c), int(n)) if pd.notna(c) and pd.notna(n) and 0 <= c <= n and n >= 1 else (None, None)
        for c, n in zip(points["correct"], points["n"], strict=True)
    ]
    measured = points["status"].isin(frames.MEASURED)
    return {
        **{key: [int(value) for value in points[key]] for key in ("m", "d", "b")},
        "s": [int(seed) for seed in points["seed"]],
        "st": [frames.STATUSES.index(str(status)) for status in points["status"]],
        "acc": numbers(points["accuracy"].where(measured)),
        "lo": numbers([low for low, _ in counted]),
        "hi": numbers([high for _, high in counted]),
        "macs": numbers(points["macs"]),
        "full": numbers(points["full_macs"]),
        "params": numbers(points["params"]),
        "latency": numbers(points["latency_ms"]),
        "key": words.numbers(points["key"]),
        "cell": words.numbers(points["cell"]),
        "why": words.numbers(points["reason"]),
    }


def cells_of(points: pd.DataFrame, areas: pd.DataFrame, commits: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """One entry a cell, in the order of the points."""
    cells = points.drop_duplicates(frames.CELL)
    area = {(r["method"], r["dataset"], r["seed"]): r["area"] for r in areas.to_dict("records")}
    keys = zip(cells["method"], cells["dataset"], cells["seed"], strict=True)
    return {
        "m": [int(value) for value in cells["m"]],
        "d": [int(value) for value in cells["d"]],
        "s": [int(value) for value in cells["seed"]],
        "cell": words.numbers(cells["cell"]),
        "commit": words.numbers(commits.get(str(cell)) for cell in cells["cell"]),
        "area": numbers([area.get(key) for key in keys]),
        "train_macs": numbers(cells["train_macs"]),
        "train_seconds": numbers(cells["train_seconds"]),
    }


def number(value: Any) -> float | int | None:
    """Six digits; whole numbers as they are."""
    if value is None or value is pd.NA or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


def numbers(values: Iterable[Any]) -> list[float | int | None]:
    return [number(value) for value in values]


# --- means --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mean:
    """``dataset`` None: mean of set means, only where every set has a value. ``budget`` None: of whole cells."""

    metric: str
    method: str
    dataset: str | None
    budget: float | None
    interval: Interval
    macs: float | None


def means(points: pd.DataFrame, areas: pd.DataFrame, named: Names) -> list[Mean]:
    shares = frames.use(points.assign(macs=points["macs"].astype(float)))
    found: list[Mean] = []
    for metric, column in AT_BUDGET.items():
        for (method, budget), group in shares.dropna(subset=[column]).groupby(["method", "budget"]):
            found += _means(group, column, metric, str(method), float(str(budget)), named.datasets)
    measured = frames.accuracies(points).drop_duplicates(frames.CELL)
    whole = {"area": areas, "train_macs": measured, "train_seconds": measured}
    for metric, frame in whole.items():
        for method, group in frame.dropna(subset=[metric]).groupby("method"):
            found += _means(group, metric, metric, str(method), None, named.datasets)
    return sorted(found, key=lambda one: _place(one, named))


def _place(mean: Mean, named: Names) -> tuple[int, ...]:
    return (
        [*AT_BUDGET, *OF_CELL].index(mean.metric),
        -1 if mean.dataset is None else named.datasets.index(mean.dataset),
        named.methods.index(mean.method),
        -1 if mean.budget is None else named.budgets.index(mean.budget),
    )


def _means(
    group: pd.DataFrame, column: str, metric: str, method: str, budget: float | None, datasets: Sequence[str]
) -> list[Mean]:
    sets = {str(name): here.sort_values("seed") for name, here in group.groupby("dataset")}
    values = {name: [float(value) for value in here[column]] for name, here in sets.items()}
    macs = {name: float(here["macs"].mean()) if budget is not None else None for name, here in sets.items()}
    one = intervals.counted if metric in COUNTED else intervals.these_sets
    found = [Mean(metric, method, name, budget, one([values[name]]), macs[name]) for name in values]
    if len(datasets) > 1 and all(name in values for name in datasets):
        every = [macs[name] for name in datasets]
        mean = None if budget is None else float(np.mean([value for value in every if value is not None]))
        found.append(Mean(metric, method, None, budget, one([values[name] for name in datasets]), mean))
    return found


def means_of(found: Sequence[Mean], named: Names, words: Words) -> dict[str, Any]:
    """``d`` or ``b`` -1: over sets, or of whole cells."""
    order = [*AT_BUDGET, *OF_CELL]
    return {
        "k": [order.index(one.metric) for one in found],
        "m": [named.methods.index(one.method) for one in found],
        "d": [-1 if one.dataset is None else named.datasets.index(one.dataset) for one in found],
        "b": [-1 if one.budget is None else named.budgets.index(one.budget) for one in found],
        "n": [one.interval.n for one in found],
        "x": numbers(one.macs for one in found),
        "y": numbers(one.interval.estimate for one in found),
        "lo": numbers(one.interval.low for one in found),
        "hi": numbers(one.interval.high for one in found),
        "why": words.numbers(one.interval.why or None for one in found),
    }


# --- A against B ----------------------------------------------------------------------------------------------------


@dataclass
class _Columns:
    """One row a (pair, budget, set); set -1 is the mean over sets and -2 sets like these."""

    rows: dict[str, list[Any]] = field(default_factory=lambda: {key: [] for key in "p b d n y lo hi why".split()})
    tests: dict[str, list[Any]] = field(
        default_factory=lambda: {key: [] for key in "p b win tie loss a same z".split()}
    )

    def add(self, pair: int, budget: int, dataset: int, found: Interval, words: Words) -> None:
        values = (found.n, number(found.estimate), number(found.low), number(found.high))
        row = (pair, budget, dataset, *values, words.number(found.why or None))
        for key, value in zip(self.rows, row, strict=True):
            self.rows[key].append(value)


def comparisons(points: pd.DataFrame, named: Names, words: Words) -> dict[str, Any]:
    """First minus second for every two methods at every budget, paired by seed."""
    every = list(combinations(range(len(named.methods)), 2))
    columns = _Columns()
    tables = {budget: frames.at_budget(points, budget) for budget in named.budgets}
    for pair, (a, b) in enumerate(every):
        for at, budget in enumerate(named.budgets):
            left, right = (tables[budget].get(named.methods[one], {}) for one in (a, b))
            both = [name for name in named.datasets if name in left and name in right]
            gaps = {name: pairs.paired(left[name], right[name]) for name in both}
            _compared(columns, pair, at, {name: values for name, values in gaps.items() if values}, named, words)
    return {"pairs": every, "rows": columns.rows, "tests": columns.tests, "zone": pairs.ZONE}


def _compared(
    columns: _Columns, pair: int, budget: int, gaps: Mapping[str, Sequence[float]], named: Names, words: Words
) -> None:
    if not gaps:
        return
    for name, values in gaps.items():
        columns.add(pair, budget, named.datasets.index(name), intervals.over_seeds(values), words)
    groups, means = [*gaps.values()], [float(np.mean(values)) for values in gaps.values()]
    columns.add(pair, budget, -1, intervals.these_sets(groups), words)
    columns.add(pair, budget, -2, intervals.like_sets(groups), words)
    odds = pairs.signed_rank(means, np.random.default_rng(0), draws=4_000)
    score = pairs.win_tie_loss(means)
    row = (pair, budget, score.wins, score.ties, score.losses, *(number(p) for p in (odds.a, odds.same, odds.b)))
    for key, value in zip(columns.tests, row, strict=True):
        columns.tests[key].append(value)
