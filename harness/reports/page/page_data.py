"""Data of the page: points by column, means over seeds with their intervals, every two methods compared.

Columns and numbers for names keep 2,000 cells small. All statistics are done here and none in the browser. Rows are
sorted by the suite's own order, so that theirs does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from harness.reports.paired_differences import PairedDifference, difference
from harness.reports.report_data import ReportData
from harness.statistics import frames, intervals, pairs
from harness.statistics.intervals import Interval
from harness.suite import Suite
from harness.tasks import Score

AT_BUDGET = {"accuracy": "accuracy", "use": "use", "latency": "latency_ms", "params": "params"}  # metric: column
METRICS = {  # the first and the area by the name of the score: metric_titles
    "accuracy": "{Score} on the test split",
    "use": "MACs used, as a share of the budget",
    "latency": "Latency of one image, ms",
    "params": "Parameters",
    "area": "Area: mean {score} over the budgets that are reached",
    "train_macs": "Training MACs of a cell",
    "train_seconds": "Training seconds of a cell",
}


def metric_titles(score: Score) -> dict[str, str]:
    return {key: title.format(Score=score.heading, score=score.title) for key, title in METRICS.items()}


COUNTED = ("use", "params", "train_macs")  # seeds that agree are exact
LONGEST = 2_000  # characters of a reason


@dataclass(frozen=True)
class Names:
    """Methods, data sets and budgets in the suite's order. ``not_run``: methods without a result."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    budgets: tuple[float, ...]
    not_run: tuple[str, ...] = ()

    @property
    def looks(self) -> tuple[int, ...]:
        """Place of each method's appearance: by name, as in the figures, which have no methods not run."""
        order = sorted(self.methods, key=lambda name: (name in self.not_run, name))
        return tuple(order.index(name) for name in self.methods)


def names(suite: Suite, not_run: tuple[str, ...] = ()) -> Names:
    return Names(
        tuple(method.name for method in suite.methods),
        tuple(entry.name for entry in suite.datasets),
        tuple(sorted(suite.budgets)),
        not_run,
    )


def ordered_points(points: pd.DataFrame, named: Names) -> pd.DataFrame:
    """Points with the numbers of the names as ``m``, ``d``, ``b``, sorted by them and the seed."""
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


_wilson = lru_cache(maxsize=65_536)(intervals.wilson)


def points_of(points: pd.DataFrame, words: Words) -> dict[str, list[Any]]:
    """``points`` as :func:`ordered_points` gives them; ``lo`` and ``hi``: Wilson's interval over the test images."""
    counted = [
        _wilson(int(c), int(n)) if pd.notna(c) and pd.notna(n) and 0 <= c <= n and n >= 1 else (None, None)
        for c, n in zip(points["correct"], points["n"], strict=True)
    ]
    measured = points["status"].isin(frames.MEASURED)
    return {
        **{key: [int(value) for value in points[key]] for key in ("m", "d", "b")},
        "s": [int(seed) for seed in points["seed"]],
        "st": [frames.STATUSES.index(str(status)) for status in points["status"]],
        "acc": short_numbers(points["accuracy"].where(measured)),
        "lo": short_numbers([low for low, _ in counted]),
        "hi": short_numbers([high for _, high in counted]),
        "macs": short_numbers(points["macs"]),
        "full": short_numbers(points["full_macs"]),
        "params": short_numbers(points["params"]),
        "latency": short_numbers(points["latency_ms"]),
        "key": words.numbers(points["key"]),
        "cell": words.numbers(points["cell"]),
        "why": words.numbers(points["reason"]),
    }


def cells_of(points: pd.DataFrame, data: ReportData, words: Words) -> dict[str, Any]:
    """One entry a cell, in the order of the points."""
    cells = points.drop_duplicates(frames.CELL)
    areas = data.values[None]
    keys = zip(*(cells[key] for key in frames.CELL), strict=True)
    commits = {record.cell: record.environment.get("commit") for record in data.ordered_records}
    return {
        "m": [int(value) for value in cells["m"]],
        "d": [int(value) for value in cells["d"]],
        "s": [int(value) for value in cells["seed"]],
        "cell": words.numbers(cells["cell"]),
        "commit": words.numbers(commits.get(str(cell)) for cell in cells["cell"]),
        "area": short_numbers([areas.get(m, {}).get(d, {}).get(seed) for m, d, seed in keys]),
        "train_macs": short_numbers(cells["train_macs"]),
        "train_seconds": short_numbers(cells["train_seconds"]),
    }


def short_number(value: Any) -> float | int | None:
    """Six digits; whole numbers as they are; None for what is no number."""
    if value is None or value is pd.NA or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


def short_numbers(values: Iterable[Any]) -> list[float | int | None]:
    return [short_number(value) for value in values]


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


def means(data: ReportData, named: Names) -> list[Mean]:
    shares = frames.budget_use(data.points)
    all_means: list[Mean] = []
    for metric, column in AT_BUDGET.items():
        for (method, budget), group in shares.dropna(subset=[column]).groupby(["method", "budget"]):
            all_means += _means(group, column, metric, str(method), float(str(budget)), named.datasets)
    measured = frames.accuracies(data.points).drop_duplicates(frames.CELL)
    whole = {"area": data.areas, "train_macs": measured, "train_seconds": measured}
    for metric, frame in whole.items():
        for method, group in frame.dropna(subset=[metric]).groupby("method"):
            all_means += _means(group, metric, metric, str(method), None, named.datasets)
    return sorted(all_means, key=lambda one: _place(one, named))


def _place(mean: Mean, named: Names) -> tuple[int, ...]:
    return (
        list(METRICS).index(mean.metric),
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
    of_method = [
        Mean(metric, method, name, budget, _possible(metric, one([values[name]])), macs[name]) for name in values
    ]
    if len(datasets) > 1 and all(name in values for name in datasets):
        every = [macs[name] for name in datasets]
        mean = None if budget is None else float(np.mean([value for value in every if value is not None]))
        interval = _possible(metric, one([values[name] for name in datasets]))
        of_method.append(Mean(metric, method, None, budget, interval, mean))
    return of_method


def _possible(metric: str, interval: Interval) -> Interval:
    return interval.within(0.0, 1.0 if metric in ("accuracy", "area") else math.inf)


def means_of(means: Sequence[Mean], named: Names, words: Words) -> dict[str, Any]:
    """``d`` or ``b`` -1: over sets, or of whole cells."""
    places = [_place(one, named) for one in means]
    return {
        **{key: [place[at] for place in places] for at, key in enumerate("kdmb")},
        "n": [one.interval.n for one in means],
        "x": short_numbers(one.macs for one in means),
        "y": short_numbers(one.interval.estimate for one in means),
        "lo": short_numbers(one.interval.low for one in means),
        "hi": short_numbers(one.interval.high for one in means),
        "why": words.numbers(one.interval.why or None for one in means),
    }


# --- A against B ----------------------------------------------------------------------------------------------------


ROWS, TESTS = "p b d n y lo hi why".split(), "p b win tie loss a same z".split()


def comparisons(data: ReportData, named: Names, words: Words) -> dict[str, Any]:
    """First minus second for every two methods at every budget, paired by seed.

    ``rows``: one a (pair, budget, set); set -1 is the mean over sets and -2 sets like these. ``tests``: one a
    (pair, budget).
    """
    every = list(combinations(range(len(named.methods)), 2))
    rows: list[tuple[Any, ...]] = []
    tests: list[tuple[Any, ...]] = []
    for (pair, (a, b)), (at, budget) in product(enumerate(every), enumerate(named.budgets)):
        paired = difference(data, named.methods[a], named.methods[b], budget)
        if paired.by_set:
            rows += [(pair, at, *row) for row in _intervals(paired, named, words)]
            odds = map(short_number, paired.posterior()[:3])
            tests.append((pair, at, *pairs.win_tie_loss(paired.means), *odds))
    return {"pairs": every, "rows": _columns(ROWS, rows), "tests": _columns(TESTS, tests), "zone": pairs.ZONE}


def _intervals(paired: PairedDifference, named: Names, words: Words) -> Iterator[tuple[Any, ...]]:
    sets = [(at, name) for at, name in enumerate(named.datasets) if name in paired.by_set]
    intervals_by_set = [(at, intervals.over_seeds(paired.by_set[name])) for at, name in sets]
    every = (*intervals_by_set, (-1, paired.these_sets()), (-2, paired.like_sets()))
    for at, one in ((place, interval.within(-1.0, 1.0)) for place, interval in every):
        yield at, one.n, *map(short_number, (one.estimate, one.low, one.high)), words.number(one.why or None)


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}
