"""What a method's answer is worth: choices frozen and counted first, then tested, then doubted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.evaluation import measure
from harness.plan import digest
from harness.protocol import Adapted, Split
from harness.results.record import Point, Status
from harness.results.store import pack

SLACK = 1e-9  # relative: a budget such as 0.2 has no exact binary value
CHECKED = 64  # images on which batch sizes are compared

Progress = Callable[[str, int, int], None]


class AnswerError(ValueError):
    """A method that answers outside the protocol."""


@dataclass(frozen=True)
class Frozen:
    """The choices for all budgets, counted, before any test image was seen. Keys of equal choices are equal."""

    points: tuple[Point, ...]  # ok points still lack what only the test split can tell
    choices: Mapping[str, Any]  # by key, those that fit their budget
    hash: str


@dataclass(frozen=True)
class Tested:
    points: tuple[Point, ...]
    bitmaps: Mapping[float, bytes]


def freeze(adapted: Adapted, budgets: Sequence[float], full_macs: int, shape: measure.Shape) -> Frozen:
    """Ask for every budget, count each different choice once, and hash what was answered."""
    asked = [(budget, adapted.select(budget)) for budget in budgets]
    keyed = [(budget, None if choice is None else _key(budget, choice)) for budget, choice in asked]
    choices = {key: choice for (_, key), (_, choice) in zip(keyed, asked, strict=True) if key is not None}
    sizes = {key: _sizes(adapted, choice, shape) for key, choice in choices.items()}
    points = tuple(_counted(budget, key, full_macs, sizes) for budget, key in keyed)
    fitting = {point.key for point in points if point.status == "ok"}
    kept = {key: choice for key, choice in choices.items() if key in fitting}
    return Frozen(points, kept, digest({repr(budget): key for budget, key in keyed})[:16])


def _key(budget: float, choice: Any) -> str:
    key = str(choice)
    if not key or key != key.strip() or "\n" in key:
        raise AnswerError(f"budget {budget:g}: the choice {choice!r} has no usable key: str(choice) is {key!r}")
    return key


def _sizes(adapted: Adapted, choice: Any, shape: measure.Shape) -> tuple[int, int]:
    module = adapted.module(choice)
    return measure.macs(module, shape), measure.params(module)


def _counted(budget: float, key: str | None, full_macs: int, sizes: Mapping[str, tuple[int, int]]) -> Point:
    if key is None:
        return Point(budget=budget, status="unreachable", reason="no choice at or under this budget")
    macs, params = sizes[key]
    allowed = budget * full_macs
    if macs > allowed * (1 + SLACK):
        reason = f"over budget: {macs} MACs counted, {allowed:.0f} allowed"
        return Point(budget=budget, status="failed", key=key, macs=macs, params=params, reason=reason)
    return Point(budget=budget, status="ok", key=key, macs=macs, params=params)


def test(
    frozen: Frozen, adapted: Adapted, known: Split, unseen: Split, shape: measure.Shape, batch: int, progress: Progress
) -> Tested:
    """Measure each frozen choice once on ``unseen``; ``known`` is a split for doubts that need no test image."""
    measured: dict[str, tuple[Point, bytes]] = {}
    for done, (key, choice) in enumerate(frozen.choices.items()):
        progress("test", done, len(frozen.choices))
        point = next(point for point in frozen.points if point.key == key and point.status == "ok")
        measured[key] = _measured(point, adapted.module(choice), known, unseen, shape, batch)
    points, bitmaps = [], {}
    for point in frozen.points:
        if point.status != "ok" or point.key is None:
            points.append(point)
            continue
        found, bits = measured[point.key]
        points.append(found.model_copy(update={"budget": point.budget}))
        if bits:
            bitmaps[point.budget] = bits
    return Tested(tuple(points), bitmaps)


def doubted(tested: Tested, rungs: Mapping[str, str]) -> Tested:
    """The points, suspicious if the cell failed a rung of the sanity ladder as a whole (rung -> why, "" if passed)."""
    why = "; ".join(f"{name}: {reason}" for name, reason in rungs.items() if reason)
    if not why:
        return tested

    def marked(point: Point) -> Point:
        reason = "; ".join(filter(None, [point.reason, why]))
        good = point.status in ("ok", "suspicious")
        return point.model_copy(update={"status": "suspicious", "reason": reason}) if good else point

    return Tested(tuple(marked(point) for point in tested.points), tested.bitmaps)


def _measured(
    point: Point, module: torch.nn.Module, known: Split, unseen: Split, shape: measure.Shape, batch: int
) -> tuple[Point, bytes]:
    try:
        agree = measure.predictions_agree(module, known, limit=CHECKED)
        bits = measure.correct(module, unseen, batch)
    except FloatingPointError as error:
        return point.model_copy(update={"status": "nan", "reason": str(error)}), b""
    correct, n = int(bits.sum()), len(bits)
    doubts = [*_doubts(correct, n, unseen), *([] if agree else ["predictions differ between batch 1 and 64"])]
    status: Status = "suspicious" if doubts else "ok"
    found = {
        "status": status,
        "reason": "; ".join(doubts),
        "correct": correct,
        "n": n,
        "latency_ms": round(measure.latency_ms(module, shape), 4),
    }
    return point.model_copy(update=found), pack(bits)


def _doubts(correct: int, n: int, unseen: Split) -> list[str]:
    chance = 1 / unseen.num_classes
    majority = int(torch.bincount(unseen.labels, minlength=unseen.num_classes).max()) / n
    accuracy = correct / n
    return [
        f"accuracy {accuracy:.3f} is not above {name} {bar:.3f}"
        for name, bar in (("chance", chance), ("the majority class", majority))
        if accuracy <= bar
    ]


def verdict(points: Sequence[Point]) -> tuple[Status, str]:
    """Status and reason of a cell by its points: the worst one, ``unreachable`` only if all are."""
    for status in ("failed", "nan", "suspicious"):
        bad = [point for point in points if point.status == status]
        if bad:
            return bad[0].status, "; ".join(f"budget {point.budget:g}: {point.reason}" for point in bad)
    if all(point.status == "unreachable" for point in points):
        return "unreachable", "no budget is reachable"
    return "ok", ""
