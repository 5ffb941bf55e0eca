"""Numbers with intervals from points and bitmaps alone.

One trained supernet is one replicate for all its budgets, so everything here is first computed within a
(method, data set, seed) and only then over seeds. With one seed there is no interval, and none is made up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import moocore
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats as distributions

MEASURED = ("ok", "suspicious")
STATUSES = ("ok", "suspicious", "unreachable", "failed", "oom", "nan", "timeout", "killed", "skipped", "missing")
KEYS = ["method", "dataset", "budget"]
CELL = ["method", "dataset", "seed"]
NEEDED = (
    *CELL,
    "suite",
    "budget",
    "status",
    "macs",
    "n",
    "accuracy",
    "train_macs",
    "train_seconds",
    "cell",
    "full_macs",
)
CONFIDENCE = 0.95
SLACK = 1e-9  # relative: a budget such as 0.2 has no exact binary value


@dataclass(frozen=True, slots=True)
class Interval:
    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class McNemar:
    only_a: int  # images that only A gets right
    only_b: int
    p: float  # exact, two-sided


# --- one cell and pairs of cells --------------------------------------------------------------------------------


def wilson(correct: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of a share of ``n`` images; the images, not the training, are what is sampled here."""
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"correct = {correct} of n = {n}: needs 0 <= correct <= n and n >= 1")
    z = float(distributions.norm.ppf((1 + confidence) / 2))
    share, spread = correct / n, z * z / n
    centre = share + spread / 2
    reach = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    low, high = (centre - reach) / (1 + spread), (centre + reach) / (1 + spread)
    return (0.0 if correct == 0 else low, 1.0 if correct == n else high)


def mcnemar_exact(a_bits: ArrayLike, b_bits: ArrayLike) -> McNemar:
    """Exact McNemar test on two bitmaps of correct images, the same images in the same order."""
    a, b = np.asarray(a_bits, dtype=np.bool_), np.asarray(b_bits, dtype=np.bool_)
    if a.shape != b.shape:
        raise ValueError(f"bitmaps of different images: {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_a + only_b
    p = float(distributions.binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_a, only_b, p)


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t over seeds; ``None`` with fewer than two."""
    if len(values) < 2:
        return None
    array = np.asarray(values, dtype=np.float64)
    return _interval(float(array.mean()), float(array.var(ddof=1)) / len(array), len(array) - 1, len(array), confidence)


def paired_t_interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Interval of a mean paired difference, one difference a seed; ``None`` is "n/a (1 seed)"."""
    return t_interval(differences, confidence)


def satterthwaite(sets: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> Interval | None:
    """Mean of set means over *these* sets: the variance is that of seeds within sets (Welch and Satterthwaite).

    ``None`` unless every set has two seeds.
    """
    if not sets or min(map(len, sets)) < 2:
        return None
    variances = np.array([np.var(values, ddof=1) / len(values) for values in sets]) / len(sets) ** 2
    freedom = np.array([len(values) - 1 for values in sets])
    mean = float(np.mean([np.mean(values) for values in sets]))
    total = float(variances.sum())
    df = total**2 / float((variances**2 / freedom).sum()) if total > 0 else float(freedom.sum())
    return _interval(mean, total, df, sum(map(len, sets)), confidence)


def _interval(mean: float, variance: float, df: float, n: int, confidence: float) -> Interval:
    reach = float(distributions.t.ppf((1 + confidence) / 2, df)) * math.sqrt(variance)
    return Interval(mean, mean - reach, mean + reach, n)


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


def completed(points: pd.DataFrame) -> pd.DataFrame:
    """Every (method, data set, seed, budget) that the points span, absent ones with status ``missing``; sorted."""
    axes = [sorted(points[key].unique()) for key in (*CELL, "budget")]
    grid = pd.MultiIndex.from_product(axes, names=[*CELL, "budget"]).to_frame(index=False)
    full = grid.merge(points, how="left", on=[*CELL, "budget"], validate="one_to_one")
    full["status"] = full["status"].fillna("missing")
    return full


def summary(points: pd.DataFrame) -> pd.DataFrame:
    """One row a (method, data set, budget): mean accuracy over seeds, t interval, count of every status.

    Columns: ``method, dataset, budget, seeds`` (measured), ``mean, low, high, half`` (missing where there is nothing
    to say), ``macs`` (mean of the choices) and one count for each of ``STATUSES``.
    """
    full = completed(points)
    counts = pd.crosstab([full[key] for key in KEYS], full["status"]).reindex(columns=list(STATUSES), fill_value=0)
    groups = accuracies(full).groupby(KEYS)
    found = groups["accuracy"].agg(seeds="count", mean="mean", std="std").join(groups["macs"].mean())
    found = found.reindex(counts.index).fillna({"seeds": 0}).astype({"seeds": int})
    reach = distributions.t.ppf((1 + CONFIDENCE) / 2, (found["seeds"] - 1).clip(lower=1))
    half = reach * found.pop("std") / np.sqrt(found["seeds"])
    table: pd.DataFrame = found.assign(low=found["mean"] - half, high=found["mean"] + half, half=half)
    return table.join(counts).reset_index()


def paired(points: pd.DataFrame, a: str, b: str, dataset: str, budget: float) -> list[float]:
    """Accuracy of A minus accuracy of B for every seed that both have, in the order of the seeds."""
    here = accuracies(points)
    here = here[(here["dataset"] == dataset) & (here["budget"] == budget)]
    first, second = (here[here["method"] == name].set_index("seed")["accuracy"] for name in (a, b))
    return [float(first[seed] - second[seed]) for seed in sorted(set(first.index) & set(second.index))]


# --- fronts -----------------------------------------------------------------------------------------------------


def front(macs: ArrayLike, accuracy: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point beats in one of (fewer MACs, more accuracy) without losing the other; ties stay."""
    values = np.column_stack([np.asarray(macs, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)])
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    kept = moocore.is_nondominated(values, maximise=[False, True], keep_weakly=True)
    return np.asarray(kept, dtype=np.bool_)


def step_area(
    macs: Sequence[float], accuracy: Sequence[float], bounds: tuple[float, float], chance: float = 0.0
) -> float:
    """Mean over log2 MACs in ``bounds`` of the best accuracy within so many MACs (0..1), ``chance`` where none fits."""
    low, high = bounds
    if not 0 < low < high:
        raise ValueError(f"bounds = {bounds}: needs 0 < low < high")
    kept = front(macs, accuracy)
    steps = sorted((m, a) for m, a, keep in zip(macs, accuracy, kept, strict=True) if keep and m <= high)
    area, here, level = 0.0, math.log2(low), chance
    for at, value in steps:
        there = max(here, math.log2(at)) if at > 0 else here
        area, here, level = area + level * (there - here), there, max(level, value)
    return (area + level * (math.log2(high) - here)) / math.log2(high / low)


def classes(points: pd.DataFrame) -> dict[str, int]:
    """Number of classes of each data set, where a record told it."""
    if "classes" not in points:
        return {}
    known = points.groupby("dataset")["classes"].max().dropna()
    return {str(name): int(count) for name, count in known.items()}


def areas(points: pd.DataFrame, chance: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Area under the step front, one row a (method, data set, seed): columns ``method, dataset, seed, area``.

    Bounds: the smallest budget to the largest, in MACs of the full model. A budget that failed or is missing leaves
    the area missing: a curve with a hole is no curve. An unreachable budget counts as ``chance`` (0 where not given).
    """
    rows = []
    for (dataset,), here in completed(points).groupby(["dataset"]):
        bounds, floor = _bounds(here), (chance or {}).get(str(dataset), 0.0)
        for key, group in here.groupby(CELL):
            rows.append({**dict(zip(CELL, key, strict=True)), "area": _area(group, bounds, floor)})
    return pd.DataFrame(rows, columns=[*CELL, "area"]).sort_values(CELL, ignore_index=True)


def _bounds(group: pd.DataFrame) -> tuple[float, float] | None:
    full = group["full_macs"].dropna() if "full_macs" in group else pd.Series(dtype=float)
    budgets = sorted(group["budget"].unique())
    if full.empty or len(budgets) < 2:
        return None
    return float(full.iloc[0]) * budgets[0], float(full.iloc[0]) * budgets[-1]


def _area(group: pd.DataFrame, bounds: tuple[float, float] | None, chance: float) -> float:
    if bounds is None or not group["status"].isin((*MEASURED, "unreachable")).all():
        return math.nan
    values = accuracies(group)
    return step_area(values["macs"].tolist(), values["accuracy"].tolist(), bounds, chance)


def use(points: pd.DataFrame) -> pd.DataFrame:
    """Share of its budget that each measured choice uses, added as column ``use`` (above 1: over budget)."""
    values = accuracies(points)
    return values.assign(use=values["macs"] / (values["budget"] * values["full_macs"].astype(float)))
