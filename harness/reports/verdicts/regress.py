"""Is it worse than the baseline? One verdict a (method, data set, budget), and an exit code for a pipeline.

With three seeds or more, by the paired t interval over seeds. With fewer there is no such interval worth its name: then
all seeds have to fall, and their images together, McNemar's exact test and its interval, have to say so. What is worse
by chance alone is kept to 5 % of all runs: the level is shared among all verdicts (Bonferroni).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from harness.reports.verdicts.compare import PointPair, compare, on_images, point_name
from harness.results.results import Results
from harness.statistics import frames, intervals
from harness.statistics.images import ImageDifference

Word = Literal["same", "worse", "better", "missing", "new", "suspicious", "not comparable"]
EXIT: Mapping[Word, int] = {
    "same": 0,
    "better": 0,
    "new": 0,
    "worse": 1,
    "missing": 1,
    "suspicious": 1,
    "not comparable": 2,
}
SEEDS = 3  # from which an interval over seeds is used
Unit = tuple[str, str, float]  # method, data set, budget


@dataclass(frozen=True, slots=True)
class RegressVerdict:
    word: Word
    where: str
    why: str = ""


def regress(baseline: Results, now: Results, margin: float = 0.0) -> tuple[RegressVerdict, ...]:
    """``margin``: accuracy, as a share of 1, that may be lost. Another code is what is tested, so it may differ."""
    if not 0 <= margin < 1:
        raise ValueError(f"margin = {margin}: needs 0 <= margin < 1; a point of accuracy is 0.01")
    comparison = compare(baseline, now, across_code=True)
    verdicts = [
        RegressVerdict("not comparable", point_name(pair.key), pair.reason) for pair in comparison.pairs if pair.reason
    ]
    comparable = [pair for pair in comparison.pairs if not pair.reason]
    verdicts += [verdict for pair in comparable if (verdict := _by_status(pair)) is not None]
    units: dict[Unit, list[PointPair]] = defaultdict(list)
    for pair in comparable:
        if pair.measured:
            method, dataset, _, budget = pair.key
            units[method, dataset, budget].append(pair)
    level = 1 - (1 - intervals.LEVEL) / max(1, len(units))
    verdicts += [_by_accuracy(unit, pairs, margin, level) for unit, pairs in sorted(units.items())]
    verdicts += [RegressVerdict("missing", point_name(key), "in the baseline only") for key in comparison.only_a]
    verdicts += [RegressVerdict("new", point_name(key), "not in the baseline") for key in comparison.only_b]
    if not comparison.pairs:
        verdicts.append(RegressVerdict("not comparable", "every point", "the two have no point in common"))
    return tuple(sorted(verdicts, key=lambda verdict: (-EXIT[verdict.word], verdict.word, verdict.where)))


def _by_status(pair: PointPair) -> RegressVerdict | None:
    """Verdict by the statuses alone; None where both have a number of the same credibility."""
    before, after, where = str(pair.a["status"]), str(pair.b["status"]), point_name(pair.key)
    reason = f": {pair.b['reason']}" if isinstance(pair.b.get("reason"), str) and pair.b["reason"] else ""
    had, has = before in frames.MEASURED, after in frames.MEASURED
    if had and not has:
        return RegressVerdict("missing", where, f"{before} in the baseline, {after} now{reason}")
    if has and not had:
        return RegressVerdict("better", where, f"{before} in the baseline, {after} now")
    if before == "ok" and after == "suspicious":
        return RegressVerdict("suspicious", where, f"suspicious now{reason}")
    return None


def _by_accuracy(unit: Unit, pairs: Sequence[PointPair], margin: float, level: float) -> RegressVerdict:
    where = f"{unit[0]} · {unit[1]} at {100 * unit[2]:g} %"
    values = [pair.difference for pair in pairs]
    if all(abs(value) <= intervals.TIE for value in values):
        return RegressVerdict("same", where, "equal")
    low, high, how = _ends(pairs, values, level)
    span = f"{100 * low:+.2f} to {100 * high:+.2f}, {how}, level {level:.4g}"
    why = f"{100 * float(np.mean(values)):+.2f} points ({span})"
    if high < -margin:
        return RegressVerdict("worse", where, why)
    return RegressVerdict("better" if low > margin else "same", where, why)


def _ends(pairs: Sequence[PointPair], values: Sequence[float], level: float) -> tuple[float, float, str]:
    """Limits of the difference; infinite where seeds disagree and are too few for an interval."""
    seeds = intervals.over_seeds(values, level)
    if len(values) >= SEEDS and seeds.low is not None and seeds.high is not None:
        return seeds.low, seeds.high, f"{len(values)} seeds"
    if len({math.copysign(1, value) if abs(value) > intervals.TIE else 0 for value in values}) > 1:
        return -math.inf, math.inf, f"{len(values)} seeds that do not agree"
    images = _over_images(pairs, level)
    if images is None:
        return -math.inf, math.inf, f"{len(values)} seed{'s' if len(values) > 1 else ''}, no single images"
    return images.low, images.high, f"{len(values)} seed{'s' if len(values) > 1 else ''}, {images.kind}"


def _over_images(pairs: Sequence[PointPair], level: float) -> ImageDifference | None:
    """Interval over all images of all seeds; where McNemar's exact test is not significant, it holds 0. None: no image
    is right or wrong.
    """
    difference, alpha = on_images(pairs, level), (1 - level) / 2
    if difference is None:
        return None
    if alpha < difference.p_worse < 1 - alpha:
        return replace(difference, low=min(difference.low, 0.0), high=max(difference.high, 0.0))
    return difference


# --- for the command line ---------------------------------------------------------------------------------------


def regress_exit_code(verdicts: Sequence[RegressVerdict]) -> int:
    """0: no worse; 1: worse, or something is missing; 2: there is no common ground to judge on."""
    return max((EXIT[verdict.word] for verdict in verdicts), default=2)


def regress_lines(verdicts: Sequence[RegressVerdict]) -> list[str]:
    """All that is not "same", the gravest first; then how many of each."""
    lines = [f"{one.word:<14} {one.where}: {one.why}" for one in verdicts if one.word != "same"]
    counts = Counter(one.word for one in verdicts)
    summary = ", ".join(f"{counts[word]} {word}" for word in EXIT if counts[word])
    return [*lines, f"{summary or 'nothing to compare'}: exit {regress_exit_code(verdicts)}"]
