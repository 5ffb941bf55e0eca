"""CPU seconds of calls that take turns, and the ratio of two of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Call = Callable[[], object]
LEAST_SECONDS = 0.05  # of CPU in one turn of a call; a shorter call is repeated


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of the rounds' ratios of two calls, and the medians of their CPU seconds."""

    ratio: float
    low: float
    high: float
    seconds: float
    of_seconds: float


def cpu_seconds(calls: Mapping[str, Call], rounds: int, clock: Callable[[], float] = time.process_time) -> dict:
    """Seconds of each call in each round, as arrays; each is called once before. Every second round runs backwards."""
    repeats = {name: max(1, round(LEAST_SECONDS / max(_one(call, 1, clock), 1e-6))) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            seconds[name].append(_one(calls[name], repeats[name], clock))
    return {name: np.array(values) for name, values in seconds.items()}


def _one(call: Call, repeats: int, clock: Callable[[], float]) -> float:
    began = clock()
    for _ in range(repeats):
        call()
    return (clock() - began) / repeats


def ratio(ours: np.ndarray, reference: np.ndarray) -> Ratio:
    low, median, high = np.quantile(ours / reference, (0.25, 0.5, 0.75))
    return Ratio(float(median), float(low), float(high), float(np.median(ours)), float(np.median(reference)))
