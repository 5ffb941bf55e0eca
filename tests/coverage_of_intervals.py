"""How often do our 95 % intervals hold the truth? A simulation of our own shape: 9 sets, 8 budgets, 3 seeds.

    python tests/coverage_of_intervals.py [--quick]

Two methods on sets of different difficulty. A seed shifts all budgets of its cell together, by a spread that differs
tenfold between sets; every point is counted on 2000 test images. Prints a row for each default interval and, below, for
what we do not use. Minutes on one core; seconds with --quick.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.statistics import advantage, curves, intervals
from harness.statistics.advantage import Fronts
from harness.statistics.intervals import Interval, Value

SETS, BUDGETS, SEEDS, IMAGES = 9, 8, 3, 2000
AT = 3  # the one budget looked at
MACS = np.linspace(1 / BUDGETS, 1, BUDGETS)
BOUNDS = (float(MACS[0]), 1.0)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What is true: sets are fixed, seeds and images are drawn anew in every experiment."""

    curve: Array  # method x set x budget
    spread: Array  # method x set: standard deviation of seeds

    @property
    def lead(self) -> float:
        return float((self.curve[0] - self.curve[1])[:, AT].mean())


def world(rng: np.random.Generator, sets: int = SETS) -> World:
    top, drop = rng.uniform(0.7, 0.85, sets), rng.uniform(0.1, 0.3, sets)
    other = top[:, None] - drop[:, None] * (1 - MACS) ** 2
    lead = rng.normal(0.02, 0.015, (sets, 1))
    spread = np.geomspace(0.0015, 0.015, sets) * rng.uniform(0.7, 1.4, (2, 1))
    return World(np.stack([other + lead, other]), spread)


def experiment(true: World, rng: np.random.Generator, seeds: int = SEEDS) -> Array:
    """Accuracies: method x set x seed x budget."""
    shift = rng.normal(size=(*true.spread.shape, seeds, 1)) * true.spread[..., None, None]
    share = np.clip(true.curve[:, :, None, :] + shift, 0, 1)
    return rng.binomial(IMAGES, share) / IMAGES


class Row(NamedTuple):
    """``make``: an interval of one experiment; ``truth``: what it should hold, given the world."""

    name: str
    make: Callable[[Array, np.random.Generator], Interval]
    truth: Callable[[World], float]
    anew: bool = False  # sets are drawn anew too: the truth is that of all sets


def leads(found: Array, at: int | slice = AT) -> list[list[float]]:
    gap = (found[0] - found[1])[:, :, at]
    return [list(values) for values in (gap if gap.ndim == 2 else gap.mean(axis=2))]


def areas(accuracy: Array) -> list[list[float]]:
    return [[curves.area(curves.steps(MACS.tolist(), list(row)), BOUNDS) for row in group] for group in accuracy]


def fronts(found: Array) -> tuple[Fronts, Fronts]:
    """By set and seed."""
    mine, other = (
        {str(at): {seed: curves.steps(MACS.tolist(), list(row)) for seed, row in enumerate(group)}
         for at, group in enumerate(method)}
        for method in found
    )  # fmt: skip
    return mine, other


def average(values: Sequence[float]) -> tuple[int, Value]:
    return len(values), lambda weights: np.asarray(weights @ np.asarray(values))


def mean_of_means(groups: Sequence[Sequence[float]]) -> float:
    return sum(sum(group) / len(group) for group in groups) / len(groups)


def pooled(groups: list[list[float]]) -> Interval:
    return intervals.these_sets(groups)


def percentile(groups: Sequence[Sequence[float]], rng: np.random.Generator, draws: int = 400) -> Interval:
    """The textbook bootstrap: as many seeds redrawn as there are, the middle 95 % of what comes out."""
    means = [np.asarray(group)[rng.integers(len(group), size=(draws, len(group)))].mean(axis=1) for group in groups]
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    return Interval(mean_of_means(groups), float(low), float(high), "bootstrap over seeds")


def true_area(true: World) -> float:
    """What so many seeds as never are would give, the luck of images in a front included."""
    return float(np.mean(areas(experiment(true, np.random.default_rng(7), 3000)[0])))


def true_ratio(true: World) -> float:
    value = advantage.macs_ratio(*fronts(experiment(true, rng := np.random.default_rng(7), 600)), rng).estimate
    return math.nan if value is None else value


def every_budget(found: Array) -> list[list[float]]:
    gap = found[0] - found[1]
    return [list(values.ravel()) for values in gap]


def all_lead(true: World) -> float:
    return float((true.curve[0] - true.curve[1]).mean())


DEFAULTS = (
    Row("t over seeds, one set, A - B", lambda f, _: intervals.over_seeds(leads(f)[4]), lambda w: _lead_on(w, 4)),
    Row(
        "these sets, accuracy of A",
        lambda f, _: intervals.these_sets(f[0, :, :, AT]),
        lambda w: _mean(w.curve[0, :, AT]),
    ),
    Row("these sets, A - B", lambda f, _: intervals.these_sets(leads(f)), lambda w: w.lead),
    Row("these sets, A - B, mean of budgets", lambda f, _: intervals.these_sets(leads(f, slice(None))), all_lead),
    Row("these sets, area", lambda f, _: intervals.these_sets(areas(f[0])), true_area),
    Row("sets like these, A - B", lambda f, _: intervals.like_sets(leads(f)), lambda w: 0.02, anew=True),
    Row(
        "bootstrap of seeds, area",
        lambda f, rng: intervals.bootstrap([average(values) for values in areas(f[0])], rng, 200),
        true_area,
    ),
)
RATIO = "bootstrap of seeds, MACs at equal accuracy"
SLOW = (Row(RATIO, lambda f, rng: advantage.macs_ratio(*fronts(f), rng), true_ratio),)
UNUSED = (
    Row("percentile bootstrap, A - B", lambda f, rng: percentile(leads(f), rng), lambda w: w.lead),
    Row("percentile bootstrap, one set", lambda f, rng: percentile(leads(f)[4:5], rng), lambda w: _lead_on(w, 4)),
    Row("budgets pooled as replicates, A - B", lambda f, _: pooled(every_budget(f)), all_lead),
)


def _lead_on(true: World, at: int) -> float:
    return float(true.curve[0, at, AT] - true.curve[1, at, AT])


def _mean(values: Array) -> float:
    return float(values.mean())


class Coverage(NamedTuple):
    share: float
    error: float  # of the simulation: one standard error
    width: float
    n: int
    given: int


def coverage(row: Row, experiments: int, seed: int = 0) -> Coverage:
    rng = np.random.default_rng(seed)
    fixed = world(rng)
    truth = row.truth(fixed)
    held, widths = 0, []
    for _ in range(experiments):
        true = world(rng) if row.anew else fixed
        found = row.make(experiment(true, rng), rng)
        if found.low is None or found.high is None:
            continue
        widths.append(found.high - found.low)
        held += found.low <= truth <= found.high
    share = held / len(widths)
    error = math.sqrt(max(share * (1 - share), 1 / len(widths)) / len(widths))
    return Coverage(share, error, float(np.mean(widths)), experiments, len(widths))


def wilson_coverage(experiments: int, seed: int = 0) -> Coverage:
    """Images alone are drawn: the accuracy of the trained cell is the truth."""
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0.5, 0.999, experiments)
    ends = [intervals.wilson(int(rng.binomial(IMAGES, share)), IMAGES) for share in shares]
    share = float(np.mean([low <= true <= high for (low, high), true in zip(ends, shares, strict=True)]))
    width = float(np.mean([high - low for low, high in ends]))
    return Coverage(share, math.sqrt(share * (1 - share) / experiments), width, experiments, experiments)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer experiments, without the slow row")
    quick = parser.parse_args(words).quick
    many, began = 400 if quick else 4000, time.perf_counter()
    print(f"{SETS} sets, {BUDGETS} budgets, {SEEDS} seeds, {IMAGES} images; intervals of 95 %")
    print(f"{'interval':<44}{'coverage':>10}{'± error':>10}{'width':>10}{'given':>8}{'of':>7}")
    _print("Wilson, one cell", wilson_coverage(many))
    for row in DEFAULTS:
        _print(row.name, coverage(row, min(many, 1000) if "bootstrap" in row.name else many))
    for row in () if quick else SLOW:
        _print(row.name, coverage(row, 500))
    print("not used, for contrast")
    for row in UNUSED:
        _print(row.name, coverage(row, many))
    print(f"{time.perf_counter() - began:.0f} s")


def _print(name: str, found: Coverage) -> None:
    print(
        f"{name:<44}{found.share:>10.3f}{found.error:>10.3f}{found.width:>10.4f}{found.given:>8}{found.n:>7}",
        flush=True,
    )


if __name__ == "__main__":
    main()
