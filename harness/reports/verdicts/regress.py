"""Is it worse than the baseline? One verdict a (method, data set, budget), and an exit code for a pipeline.

With three seeds or more, by the paired t interval over seeds. With fewer there is no such interval worth its name: then
all seeds have to fall, and their images together, McNemar's exact test and its interval, have to say so. What is worse
by chance alone is kept to 5 % of all runs: the level is shared among all verdicts (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.reports.verdicts.compare import Pair, Results, compare, spelled
from harness.statistics import frames, intervals, shares

Word = Literal["same", "worse", "better", "missing", "new", "doubted", "not comparable"]
EXIT: Mapping[Word, int] = {
    "same": 0,
    "better": 0,
    "new": 0,
    "worse": 1,
    "missing": 1,
    "doubted": 1,
    "not comparable": 2,
}
SEEDS = 3  # from which an interval over seeds is asked
Unit = tuple[str, str, float]  # method, data set, budget


@dataclass(frozen=True, slots=True)
class Verdict:
    word: Word
    where: str
    why: str = ""


def regress(baseline: Results, now: Results, margin: float = 0.0) -> tuple[Verdict, ...]:
    """``margin``: accuracy, as a share of 1, that may be lost. Another code is what is tested, so it may differ."""
    if not 0 <= margin < 1:
        raise ValueError(f"margin = {margin}: needs 0 <= margin < 1; a point of accuracy is 0.01")
    found = compare(baseline, now, across_code=True)
    verdicts = [Verdict("not comparable", spelled(pair.key), pair.reason) for pair in found.pairs if pair.reason]
    paired = [pair for pair in found.pairs if not pair.reason]
    states = [verdict for pair in paired if (verdict := _state(pair)) is not None]
    units = _units(paired)
    level = 1 - (1 - intervals.LEVEL) / max(1, len(units))
    verdicts += states + [_judged(unit, pairs, margin, level) for unit, pairs in sorted(units.items())]
    verdicts += [Verdict("missing", spelled(key), "in the baseline only") for key in found.only_a]
    verdicts += [Verdict("new", spelled(key), "not in the baseline") for key in found.only_b]
    return tuple(sorted(verdicts, key=lambda verdict: (-EXIT[verdict.word], verdict.word, verdict.where)))


def _state(pair: Pair) -> Verdict | None:
    """What the statuses alone say; None where both have a number that is believed as much as before."""
    before, after = str(pair.a["status"]), str(pair.b["status"])
    where = spelled(pair.key)
    had, has = before in frames.MEASURED, after in frames.MEASURED
    if had and not has:
        return Verdict("missing", where, f"{before} in the baseline, {after} now{_reason(pair)}")
    if has and not had:
        return Verdict(
            "better" if before in frames.STATUSES else "new", where, f"{before} in the baseline, {after} now"
        )
    if before == "ok" and after == "suspicious":
        return Verdict("doubted", where, f"suspicious now{_reason(pair)}")
    return None


def _reason(pair: Pair) -> str:
    reason = pair.b.get("reason")
    return f": {reason}" if isinstance(reason, str) and reason else ""


def _units(paired: Sequence[Pair]) -> dict[Unit, list[Pair]]:
    found: dict[Unit, list[Pair]] = {}
    for pair in paired:
        if pair.measured:
            method, dataset, _, budget = pair.key
            found.setdefault((method, dataset, budget), []).append(pair)
    return found


def _judged(unit: Unit, pairs: Sequence[Pair], margin: float, level: float) -> Verdict:
    where = f"{unit[0]} · {unit[1]} at {100 * unit[2]:g} %"
    values = [pair.difference for pair in pairs]
    if all(abs(value) <= intervals.TIE for value in values):
        return Verdict("same", where, "equal")
    low, high, how = _ends(pairs, values, level)
    told = (
        f"{100 * float(np.mean(values)):+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}, {how}, level {level:.4g})"
    )
    if high < -margin:
        return Verdict("worse", where, told)
    return Verdict("better" if low > margin else "same", where, told)


def _ends(pairs: Sequence[Pair], values: Sequence[float], level: float) -> tuple[float, float, str]:
    """Of the difference; without any limit where not all seeds say the same and there are too few for an interval."""
    seeds = intervals.over_seeds(values, level)
    if len(values) >= SEEDS and seeds.low is not None and seeds.high is not None:
        return seeds.low, seeds.high, f"{len(values)} seeds"
    if len({math.copysign(1, value) if abs(value) > intervals.TIE else 0 for value in values}) > 1:
        return -math.inf, math.inf, f"{len(values)} seeds that do not agree"
    gap = _images(pairs, level)
    return gap.low, gap.high, f"{len(values)} seed{'s' if len(values) > 1 else ''}, {gap.how}"


def _images(pairs: Sequence[Pair], level: float) -> shares.Gap:
    """Of all images of all seeds; where McNemar's exact test finds nothing, an interval that holds 0."""
    if all(pair.bits is not None and len(pair.bits[0]) == len(pair.bits[1]) for pair in pairs):
        before, after = (np.concatenate([pair.bits[at] for pair in pairs if pair.bits]) for at in (0, 1))
        gap = shares.paired(after, before, level)
    else:
        good, once, n, m = (sum(int(side[key]) for side in sides) for key, sides in _sides(pairs))
        gap = shares.counts(good, once, n, m, level)
    alpha = (1 - level) / 2
    if alpha < gap.fall < 1 - alpha:
        return shares.Gap(gap.estimate, min(gap.low, 0.0), max(gap.high, 0.0), gap.fall, gap.how)
    return gap


def _sides(pairs: Sequence[Pair]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """What the gap of two counts is made of, in its order."""
    now, before = [pair.b for pair in pairs], [pair.a for pair in pairs]
    return [("correct", now), ("correct", before), ("n", now), ("n", before)]


# --- for the command line ---------------------------------------------------------------------------------------


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0: no worse; 1: worse, or something is missing; 2: there is no common ground to judge on."""
    return max((EXIT[verdict.word] for verdict in verdicts), default=2)


def lines(verdicts: Sequence[Verdict]) -> list[str]:
    """All that is not "same", the gravest first; then how many of each."""
    told = [f"{one.word:<14} {one.where}: {one.why}" for one in verdicts if one.word != "same"]
    counts = {word: sum(one.word == word for one in verdicts) for word in EXIT}
    summary = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return [*told, f"{summary or 'nothing to compare'}: exit {exit_code(verdicts)}"]
