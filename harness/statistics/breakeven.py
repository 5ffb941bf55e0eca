"""Is elastic cheaper? One adaptation for all sizes against one training for each size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.statistics.intervals import Interval, over_seeds, these_sets

Groups = Sequence[Sequence[float]]  # by set, then by seed


@dataclass(frozen=True, slots=True)
class BreakEven:
    """``sizes``: the fewest sizes from which elastic costs less, ``low`` to ``high`` over seeds; None is never.

    ``ratio``: cost of the elastic family in trainings of one size.
    """

    sizes: int | None
    low: int | None
    high: int | None
    ratio: Interval

    @property
    def text(self) -> str:
        if self.ratio.estimate is None:
            return f"n/a ({self.ratio.why})"
        if self.sizes is None:
            return f"never: {self.ratio.why}"
        if not self.ratio.given:
            return f"from {_sizes(self.sizes)}; interval n/a ({self.ratio.why})"
        return f"from {_sizes(self.sizes)} ({self.low} to {self.high})"


def _sizes(count: int) -> str:
    return f"{count} size" if count == 1 else f"{count} sizes"


def sizes_to_win(ratio: float) -> int | None:
    """The fewest whole sizes that cost more than ``ratio`` trainings of one; a tie is no win. None: no number does."""
    return math.floor(ratio) + 1 if math.isfinite(ratio) else None


def break_even(elastic: Groups, per_size: Groups, interval: Callable[[Groups], Interval] = these_sets) -> BreakEven:
    """Costs by set and seed, paired; ``per_size``: of one model trained alone, the mean over the sizes there were.

    A seed's ratio is one number, so ``interval`` is one of means: ``intervals.counted`` for MACs, where seeds that
    agree are exact. A training that costs nothing is never beaten.
    """
    pairs = [[*zip(mine, other, strict=True)] for mine, other in zip(elastic, per_size, strict=True)]
    if any(not math.isfinite(value) or value < 0 for group in pairs for pair in group for value in pair):
        raise ValueError("costs: needs finite numbers from 0 up")
    if not pairs or not all(pairs):
        return BreakEven(None, None, None, over_seeds([]))
    if any(other == 0 for group in pairs for _, other in group):
        why = "a model trained alone costs nothing"
        free = Interval(math.inf, None, None, "these sets", why, sum(map(len, pairs)), len(pairs))
        return BreakEven(None, None, None, free)
    ratio = interval([[mine / other for mine, other in group] for group in pairs])
    low, high = (None if end is None else sizes_to_win(max(0.0, end)) for end in (ratio.low, ratio.high))
    return BreakEven(None if ratio.estimate is None else sizes_to_win(ratio.estimate), low, high, ratio)
