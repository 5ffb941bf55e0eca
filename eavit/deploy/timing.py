"""Latency of calls by a quiet protocol: warm-up, interleaved repeats, medians, spread, and how busy the machine was.

With one thread the processor time of this process is measured: it is the wall time of an undisturbed call, and goes on
only while the call runs, so that other processes add little to it. With more threads it is wall time.

A call during which the system took the processor away from this process (an involuntary context switch) finds cold
caches afterwards, or waited. It is left out where enough others remain, and counted: the share of such calls tells a
busy machine. :mod:`harness.evaluation.measure` times the modules of the bench by the same protocol.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Call = Callable[[], object]
Clock = Callable[[], float]

WARM_UP = 3  # calls of each, before any is timed
VISIT_SECONDS = 0.03  # of one call's timed repeats, one after another, before the next call's turn
FEWEST_ROUNDS, MOST_ROUNDS = 5, 40
FEWEST_CLEAN = 5  # undisturbed calls that are enough for a median
BUSY = 0.25  # spread, or share of disturbed calls where they were waited for: more, and the machine is called busy


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one call: median, and the middle half of them relative to it."""

    median_ms: float
    spread: float
    calls: int
    disturbed: float  # share of the calls that were interrupted
    waited: bool = True  # wall time: interruptions are part of it

    @property
    def busy(self) -> bool:
        """Return whether the machine was too busy for the median to be relied on."""
        return self.spread > BUSY or (self.waited and self.disturbed > BUSY)


def clock_of(threads: int) -> Clock:
    """Processor time of the process for one thread, wall time for more."""
    return time.process_time if threads == 1 else time.perf_counter


@dataclass(slots=True)
class _Samples:
    clock: Clock
    clean: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)

    def add(self, call: Call) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        seconds = _timed(call, self.clock)
        same = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == before
        (self.clean if same else self.disturbed).append(seconds)

    def timing(self, waited: bool) -> Timing:
        count = len(self.clean) + len(self.disturbed)
        kept = self.clean if len(self.clean) >= FEWEST_CLEAN else sorted(self.clean + self.disturbed)[: -(-count // 2)]
        low, median, high = np.quantile(kept, (0.25, 0.5, 0.75))
        return Timing(float(median) * 1e3, float((high - low) / median), count, len(self.disturbed) / count, waited)


def time_calls(calls: Mapping[str, Call], seconds: float = 10.0, seed: int = 0, threads: int = 1) -> dict[str, Timing]:
    """Time some calls in turn, for about so many seconds of the clock in all. ``threads``: that a call runs on."""
    clock, visits, once = clock_of(threads), {}, 0.0
    for name, call in calls.items():
        first = min(_timed(call, clock) for _ in range(WARM_UP))
        visits[name] = max(2, min(50, round(VISIT_SECONDS / max(first, 1e-6))))
        once += (visits[name] + 1) * first
    rounds = int(min(MOST_ROUNDS, max(FEWEST_ROUNDS, seconds / max(once, 1e-9))))
    order, rng = list(calls), random.Random(seed)
    samples = {name: _Samples(clock) for name in calls}
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            calls[name]()  # the caches are those of this call again
            for _ in range(visits[name]):
                samples[name].add(calls[name])
    return {name: sample.timing(threads != 1) for name, sample in samples.items()}


def _timed(call: Call, clock: Clock) -> float:
    start = clock()
    call()
    return clock() - start
