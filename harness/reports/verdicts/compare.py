"""Two folders of results, point by point: what changed, by how much, and what may not be compared at all.

Points are paired on (method, data set, seed, budget). Another code, data, counter or budget is "not comparable", which
is a verdict of its own and no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.plan import canonical_digest
from harness.results.record import Record
from harness.results.results import Results
from harness.statistics import frames, images, intervals
from harness.statistics.images import ImageDifference
from harness.statistics.intervals import Interval
from harness.tasks import ACCURACY, SCORES

PointKey = tuple[str, str, int, float]  # method, data set, seed, budget
PointRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PointPair:
    """One point in both; ``reason``: why the two are not comparable, "" if they are. ``bitmaps``: of A and of B."""

    key: PointKey
    a: PointRow
    b: PointRow
    reason: str
    bitmaps: tuple[Any, Any] | None = None

    @property
    def measured(self) -> bool:
        return self.a["status"] in frames.MEASURED and self.b["status"] in frames.MEASURED

    @property
    def difference(self) -> float:
        """Score of B minus score of A."""
        return float(self.b["accuracy"]) - float(self.a["accuracy"])


@dataclass(frozen=True)
class FolderDifference:
    """B minus A over all comparable seeds and sets. ``images``: where there is one point alone, over its images."""

    method: str
    budget: float
    points: int
    sets: int
    interval: Interval
    images: ImageDifference | None


@dataclass(frozen=True)
class FolderComparison:
    a: str
    b: str
    differences: tuple[FolderDifference, ...]
    pairs: tuple[PointPair, ...]
    only_a: tuple[PointKey, ...]
    only_b: tuple[PointKey, ...]


def compare(a: Results, b: Results, *, across_code: bool = False) -> FolderComparison:
    """``across_code``: another code is no reason against a comparison: it is what is compared."""
    rows_a, rows_b = _rows(a), _rows(b)
    common = sorted(rows_a.keys() & rows_b)
    pairs = tuple(_pair(key, a, b, rows_a[key], rows_b[key], across_code) for key in common)
    groups: dict[tuple[str, float], list[PointPair]] = defaultdict(list)
    for pair in pairs:
        if not pair.reason and pair.measured:
            groups[pair.key[0], pair.key[3]].append(pair)
    return FolderComparison(
        a=str(a.folder),
        b=str(b.folder),
        differences=tuple(_difference(*where, group) for where, group in sorted(groups.items())),
        pairs=pairs,
        only_a=tuple(sorted(rows_a.keys() - rows_b.keys())),
        only_b=tuple(sorted(rows_b.keys() - rows_a.keys())),
    )


def _rows(results: Results) -> dict[PointKey, PointRow]:
    rows = ({str(name): value for name, value in row.items()} for row in results.points.to_dict("records"))
    return {(row["method"], row["dataset"], int(row["seed"]), float(row["budget"])): row for row in rows}


def _pair(key: PointKey, a: Results, b: Results, row_a: PointRow, row_b: PointRow, across_code: bool) -> PointPair:
    reason = why_not_comparable(conditions(row_a, a.records), conditions(row_b, b.records), across_code)
    bitmaps = a.bitmaps.get((row_a["cell"], key[3])), b.bitmaps.get((row_b["cell"], key[3]))
    return PointPair(key, row_a, row_b, reason, bitmaps if all(bits is not None for bits in bitmaps) else None)


# --- may they be compared ---------------------------------------------------------------------------------------

SAME = {  # what has to be equal, and what it is called
    "counter": "counter version",
    "data": "data fingerprint",
    "full": "budget, as a share of the full model's MACs",
    "n": "number of test images",
    "regime": "regime",
    "score": "score",
    "code": "code",
}


def conditions(row: PointRow, records: Mapping[str, Record]) -> Mapping[str, Any]:
    """Conditions under which a point was measured: by its record, else by its row; None is not known."""
    record = records.get(str(row["cell"]))
    identity: Mapping[str, Any] = record.identity if record is not None else {}
    fingerprint = record.data.get("fingerprint") if record is not None else None
    counter = identity.get("counter", _known(row.get("counter")))
    return {
        "counter": None if counter is None else int(counter),
        "regime": identity.get("regime", _known(row.get("regime"))),
        "data": fingerprint or identity.get("data") or _known(row.get("data")),
        "full": _known(row.get("full_macs")),
        "n": _known(row.get("n")),
        "score": _known(row.get("score")),
        "code": canonical_digest(identity["code"])[:16] if "code" in identity else _known(row.get("code")),
    }


def _known(value: Any) -> Any:
    return None if value is None or value != value else value


def why_not_comparable(a: Mapping[str, Any], b: Mapping[str, Any], across_code: bool) -> str:
    """The first of ``SAME`` that differs. What neither side knows cannot tell them apart; one side alone can."""
    for key, name in SAME.items():
        if key == "code" and across_code:
            continue
        if key in ("n", "full") and None in (a[key], b[key]):  # nothing was measured there
            continue
        if a[key] != b[key]:
            return f"other {name} ({_short(a[key])} and {_short(b[key])})"
    return ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}"
    return "unknown" if value is None else str(value)[:12]


# --- differences ------------------------------------------------------------------------------------------------


def _difference(method: str, budget: float, group: Sequence[PointPair]) -> FolderDifference:
    sets: dict[str, list[float]] = defaultdict(list)
    for pair in group:
        sets[pair.key[1]].append(pair.difference)
    over_images = on_images(group) if len(group) == 1 else None
    return FolderDifference(
        method, budget, len(group), len(sets), intervals.these_sets(list(sets.values())), over_images
    )


def on_images(pairs: Sequence[PointPair], level: float = intervals.LEVEL) -> ImageDifference | None:
    """B minus A on the images of all pairs: paired where every bitmap is known, else by counts. None: the score is of
    the whole split.
    """
    if any(_known(side["correct"]) is None for pair in pairs for side in (pair.a, pair.b)):
        return None
    if all(pair.bitmaps is not None and len(pair.bitmaps[0]) == len(pair.bitmaps[1]) for pair in pairs):
        before, after = (np.concatenate([pair.bitmaps[at] for pair in pairs if pair.bitmaps]) for at in (0, 1))
        return images.paired_images(after, before, level)
    right, n = (sum(int(pair.b[key]) for pair in pairs) for key in ("correct", "n"))
    right_before, n_before = (sum(int(pair.a[key]) for pair in pairs) for key in ("correct", "n"))
    return images.counted_images(right, right_before, n, n_before, level)


# --- lines ------------------------------------------------------------------------------------------------------


def comparison_lines(comparison: FolderComparison) -> list[str]:
    """Lines for the command line: differences first, then all that could not be compared, by reason."""
    scores = {_known(pair.b.get("score")) or ACCURACY for pair in comparison.pairs} or {ACCURACY}
    titles = " or ".join(sorted(SCORES[str(name)].title for name in scores))
    lines = [f"{comparison.b} minus {comparison.a}, {titles} in points, paired by method, data set, seed and budget"]
    lines += map(_line, comparison.differences) if comparison.differences else ["nothing could be compared"]
    for reason, keys in reasons_against(comparison).items():
        lines.append(f"not comparable: {reason}: {len(keys)} points, such as {point_name(keys[0])}")
    return lines


def _line(one: FolderDifference) -> str:
    count = f"{one.points} point{'s' if one.points > 1 else ''}, {one.sets} set{'s' if one.sets > 1 else ''}"
    head = f"  {one.method} at {100 * one.budget:g} %: {100 * (one.interval.estimate or 0.0):+.2f}"
    if one.interval.low is not None and one.interval.high is not None:
        span = f"{100 * one.interval.low:+.2f} to {100 * one.interval.high:+.2f}, {one.interval.kind}"
        return f"{head} ({span}; {count})"
    over_images = ""
    if one.images is not None:
        over_images = f"; over images {100 * one.images.low:+.2f} to {100 * one.images.high:+.2f}, {one.images.kind}"
    return f"{head} (interval n/a: {one.interval.why}{over_images}; {count})"


def reasons_against(comparison: FolderComparison) -> dict[str, list[PointKey]]:
    """Reasons why points were not compared; the most frequent first."""
    reasons: dict[str, list[PointKey]] = defaultdict(list)
    for pair in comparison.pairs:
        if pair.reason or not pair.measured:
            reasons[pair.reason or f"{pair.a['status']} in A, {pair.b['status']} in B"].append(pair.key)
    for side, keys in (("A", comparison.only_a), ("B", comparison.only_b)):
        if keys:
            reasons[f"only in {side}"] = list(keys)
    return dict(sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])))


def point_name(key: PointKey) -> str:
    method, dataset, seed, budget = key
    return f"{method} · {dataset} · seed {seed} at {100 * budget:g} %"
