"""Wall time of calls by a quiet protocol: warm-up, interleaved repeats, medians, spread, and how busy the machine was.

A call during which the system took the processor away from this process (an involuntary context switch) says nothing
about the call. It is left out where enough others remain, and counted: the share of such calls tells a busy machine.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Call = Callable[[], object]

WARM_UP = 3  # calls of each, before any is timed
VISIT_SECONDS = 0.03  # of one call's timed repeats, one after another, before the next call's turn
FEWEST_ROUNDS, MOST_ROUNDS = 5, 40
FEWEST_CLEAN = 5  # undisturbed calls that are enough for a median
BUSY = 0.25  # of all calls disturbed, or of spread: more, and the machine is called busy


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one call: median, and the middle half of them relative to it."""

    median_ms: float
    spread: float
    calls: int
    disturbed: float  # share of the calls that were interrupted

    @property
    def busy(self) -> bool:
        """Return whether the machine was too busy for the median to be relied on."""
        return self.disturbed > BUSY or self.spread > BUSY


@dataclass(slots=True)
class _Samples:
    clean: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)

    def add(self, call: Call) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        same = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == before
        (self.clean if same else self.disturbed).append(seconds)

    def timing(self) -> Timing:
        count = len(self.clean) + len(self.disturbed)
        kept = self.clean if len(self.clean) >= FEWEST_CLEAN else sorted(self.clean + self.disturbed)[: -(-count // 2)]
        low, median, high = np.quantile(kept, (0.25, 0.5, 0.75))
        return Timing(float(median) * 1e3, float((high - low) / median), count, len(self.disturbed) / count)


def time_calls(calls: Mapping[str, Call], seconds: float = 10.0, seed: int = 0) -> dict[str, Timing]:
    """Time some calls in turn, for about so many seconds in all."""
    visits, once = {}, 0.0
    for name, call in calls.items():
        first = min(_timed(call) for _ in range(WARM_UP))
        visits[name] = max(2, min(50, round(VISIT_SECONDS / max(first, 1e-6))))
        once += (visits[name] + 1) * first
    rounds = int(min(MOST_ROUNDS, max(FEWEST_ROUNDS, seconds / max(once, 1e-9))))
    order, rng = list(calls), random.Random(seed)
    samples = {name: _Samples() for name in calls}
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            calls[name]()  # the caches are those of this call again
            for _ in range(visits[name]):
                samples[name].add(calls[name])
    return {name: sample.timing() for name, sample in samples.items()}


def _timed(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
