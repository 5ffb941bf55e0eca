"""Two folders of results, point by point: what changed, by how much, and what may not be compared at all.

Points are paired on (method, data set, seed, budget). Another code, data, counter or budget is "not comparable", which
is a verdict of its own and no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.plan import digest
from harness.results.record import Record
from harness.results.results import Results
from harness.statistics import frames, images, intervals
from harness.statistics.images import ImageDifference
from harness.statistics.intervals import Interval

PointKey = tuple[str, str, int, float]  # method, data set, seed, budget


@dataclass(frozen=True, slots=True)
class Pair:
    """One point in both; ``reason``: why the two are not comparable, "" if they are. ``bitmaps``: of A and of B."""

    key: PointKey
    a: Mapping[str, Any]
    b: Mapping[str, Any]
    reason: str
    bitmaps: tuple[Any, Any] | None = None

    @property
    def measured(self) -> bool:
        return self.a["status"] in frames.MEASURED and self.b["status"] in frames.MEASURED

    @property
    def difference(self) -> float:
        """Accuracy of B minus accuracy of A."""
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
    pairs: tuple[Pair, ...]
    only_a: tuple[PointKey, ...]
    only_b: tuple[PointKey, ...]


def compare(a: Results, b: Results, *, across_code: bool = False) -> FolderComparison:
    """``across_code``: another code is no reason against a comparison: it is what is compared."""
    rows_a, rows_b = _rows(a), _rows(b)
    pairs = tuple(_pair(key, a, b, rows_a[key], rows_b[key], across_code) for key in sorted(rows_a.keys() & rows_b))
    return FolderComparison(
        a=str(a.folder),
        b=str(b.folder),
        differences=_differences(pairs),
        pairs=pairs,
        only_a=tuple(sorted(rows_a.keys() - rows_b.keys())),
        only_b=tuple(sorted(rows_b.keys() - rows_a.keys())),
    )


def _rows(of: Results) -> dict[PointKey, Mapping[str, Any]]:
    return {
        (str(row["method"]), str(row["dataset"]), int(row["seed"]), float(row["budget"])): {
            str(k): v for k, v in row.items()
        }
        for row in of.points.to_dict("records")
    }


def _pair(
    key: PointKey, a: Results, b: Results, row_a: Mapping[str, Any], row_b: Mapping[str, Any], across_code: bool
) -> Pair:
    about_a, about_b = about(row_a, a.records), about(row_b, b.records)
    reason = why_not(about_a, about_b, across_code)
    found = a.bitmaps.get((row_a["cell"], key[3])), b.bitmaps.get((row_b["cell"], key[3]))
    both = found if all(bits is not None for bits in found) else None
    return Pair(key, row_a, row_b, reason, both)


# --- may they be compared ---------------------------------------------------------------------------------------

About = Mapping[str, Any]
SAME = {  # what has to be equal, and what it is called
    "counter": "counter version",
    "data": "data fingerprint",
    "full": "budget, as a share of the full model's MACs",
    "n": "number of test images",
    "regime": "regime",
    "code": "code",
}


def about(row: Mapping[str, Any], records: Mapping[str, Record]) -> About:
    """Description of a point by its record, else by its row; None is not known."""
    record = records.get(str(row["cell"]))
    identity: Mapping[str, Any] = record.identity if record is not None else {}
    data = record.data.get("fingerprint") if record is not None else None
    recipe = {key: identity.get(key, _there(row.get(key))) for key in ("counter", "regime")}
    code = digest(identity["code"])[:16] if "code" in identity else _there(row.get("code"))
    return {
        **recipe,
        "counter": None if recipe["counter"] is None else int(recipe["counter"]),
        "data": data or identity.get("data") or _there(row.get("data")),
        "full": _there(row.get("full_macs")),
        "n": _there(row.get("n")),
        "code": code,
    }


def _there(value: Any) -> Any:
    return None if value is None or value != value else value


def why_not(a: About, b: About, across_code: bool) -> str:
    """The first of ``SAME`` that differs. What neither side tells cannot tell them apart; one side alone can."""
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


def usable(pairs: Iterable[Pair]) -> list[Pair]:
    return [pair for pair in pairs if not pair.reason and pair.measured]


def _differences(pairs: Sequence[Pair]) -> tuple[FolderDifference, ...]:
    groups: dict[tuple[str, float], list[Pair]] = {}
    for pair in usable(pairs):
        groups.setdefault((pair.key[0], pair.key[3]), []).append(pair)
    return tuple(_difference(*where, group) for where, group in sorted(groups.items()))


def _difference(method: str, budget: float, group: Sequence[Pair]) -> FolderDifference:
    sets: dict[str, list[float]] = {}
    for pair in group:
        sets.setdefault(pair.key[1], []).append(pair.difference)
    images = on_images(group) if len(group) == 1 else None
    return FolderDifference(method, budget, len(group), len(sets), intervals.these_sets(list(sets.values())), images)


def on_images(pairs: Sequence[Pair], level: float = intervals.LEVEL) -> ImageDifference:
    """B minus A on the images of all pairs: paired where every bitmap is known, else by counts."""
    if all(pair.bitmaps is not None and len(pair.bitmaps[0]) == len(pair.bitmaps[1]) for pair in pairs):
        before, after = (np.concatenate([pair.bitmaps[at] for pair in pairs if pair.bitmaps]) for at in (0, 1))
        return images.paired_images(after, before, level)
    good, once = (sum(int(row["correct"]) for row in rows) for rows in _rows_of(pairs))
    n, m = (sum(int(row["n"]) for row in rows) for rows in _rows_of(pairs))
    return images.counted_images(good, once, n, m, level)


def _rows_of(pairs: Sequence[Pair]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Now, and before."""
    return [pair.b for pair in pairs], [pair.a for pair in pairs]


# --- lines ------------------------------------------------------------------------------------------------------


def lines(found: FolderComparison) -> list[str]:
    """Lines for the command line: differences first, then all that could not be compared, by reason."""
    rows = [f"{found.b} minus {found.a}, accuracy in points, paired by method, data set, seed and budget"]
    rows += [_difference_line(one) for one in found.differences]
    rows += [] if found.differences else ["nothing could be compared"]
    for reason, keys in reasons(found).items():
        rows.append(f"not comparable: {reason}: {len(keys)} points, such as {point_name(keys[0])}")
    return rows


def _difference_line(one: FolderDifference) -> str:
    word = f"{one.points} point{'s' if one.points > 1 else ''}, {one.sets} set{'s' if one.sets > 1 else ''}"
    head = f"  {one.method} at {100 * one.budget:g} %: {100 * (one.interval.estimate or 0.0):+.2f}"
    if one.interval.low is not None and one.interval.high is not None:
        span = f"{100 * one.interval.low:+.2f} to {100 * one.interval.high:+.2f}, {one.interval.kind}"
        return f"{head} ({span}; {word})"
    images = ""
    if one.images is not None:
        images = f"; over images {100 * one.images.low:+.2f} to {100 * one.images.high:+.2f}, {one.images.kind}"
    return f"{head} (interval n/a: {one.interval.why}{images}; {word})"


def reasons(found: FolderComparison) -> dict[str, list[PointKey]]:
    """Reasons why points were not compared; the most frequent first."""
    held: dict[str, list[PointKey]] = {}
    for pair in found.pairs:
        if pair.reason:
            held.setdefault(pair.reason, []).append(pair.key)
        elif not pair.measured:
            held.setdefault(f"{pair.a['status']} in A, {pair.b['status']} in B", []).append(pair.key)
    for side, keys in (("A", found.only_a), ("B", found.only_b)):
        if keys:
            held[f"only in {side}"] = list(keys)
    order = Counter({reason: len(keys) for reason, keys in held.items()})
    return {reason: held[reason] for reason in sorted(held, key=lambda reason: (-order[reason], reason))}


def point_name(key: PointKey) -> str:
    method, dataset, seed, budget = key
    return f"{method} · {dataset} · seed {seed} at {100 * budget:g} %"
