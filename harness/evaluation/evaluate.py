"""Evaluation of a method's choices: frozen and counted first, then measured on the test split, then checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.evaluation import measure, scores
from harness.evaluation.failures import error_message
from harness.messages import FORMULA, one_line
from harness.plan import canonical_digest
from harness.protocol import Adapted, Split
from harness.results.cell_files import pack_bits
from harness.results.record import USABLE, Point, Status
from harness.tasks import SCORES

TOLERANCE = 1e-9  # relative: a budget such as 0.2 has no exact binary value
KEY_LENGTH = 200  # characters of str(choice)
COMPARED_IMAGES = 64  # on which batch sizes are compared

Progress = Callable[[str, int, int], None]


class ChoiceError(ValueError):
    """A choice that the protocol does not allow."""


@dataclass(frozen=True)
class FrozenChoices:
    """Choices for all budgets, counted before any test image was seen. Keys of equal choices are equal."""

    points: tuple[Point, ...]  # ok points still lack the fields that need the test split
    choices: Mapping[str, Any]  # by key, those that fit their budget
    hash: str
    grid: tuple[Point, ...] = ()  # answers to the budgets of the area

    @property
    def declared(self) -> Mapping[str, Any]:
        """Choices for the budgets of the suite, fewest MACs first."""
        macs = {point.key: point.macs or 0 for point in self.points if point.key in self.choices}
        return {key: self.choices[key] for key in sorted(macs, key=macs.__getitem__) if key is not None}


@dataclass(frozen=True)
class MeasuredPoints:
    points: tuple[Point, ...]
    bitmaps: Mapping[float, bytes]  # by budget: which test images are right
    grid: tuple[Point, ...] = ()
    outputs: Mapping[float, NDArray[np.float32]] = field(default_factory=dict)  # by budget: logits of the test images
    latency_noise: Mapping[str, float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)  # of scores of a whole split, by name


def freeze_choices(
    adapted: Adapted, budgets: Sequence[float], full_macs: int, shape: measure.Shape, grid: Sequence[float] = ()
) -> FrozenChoices:
    """Select for every budget, count each different choice once, and hash all keys.

    An error at a budget that only the ``grid`` has fails this point, not the cell.
    """
    keys: dict[float, str | None] = {}
    choices: dict[str, Any] = {}
    refused: dict[float, str] = {}
    for budget in (*budgets, *(b for b in grid if b not in budgets)):
        try:
            choice = adapted.select(budget)
            keys[budget] = None if choice is None else _key(budget, choice)
        except Exception as error:
            if budget in budgets:
                raise
            keys[budget], refused[budget] = None, error_message(error)
            continue
        if (key := keys[budget]) is not None:
            choices.setdefault(key, choice)
    sizes = {key: _sizes(adapted, choice, shape) for key, choice in choices.items()}

    def answers(asked: Sequence[float]) -> tuple[Point, ...]:
        return tuple(
            Point(budget=budget, status="failed", reason=refused[budget])
            if budget in refused
            else _counted(budget, keys[budget], full_macs, sizes)
            for budget in asked
        )

    points, dense = answers(budgets), answers(grid)
    fitting = {point.key for point in (*points, *dense) if point.status == "ok"}
    choices = {key: choice for key, choice in choices.items() if key in fitting}
    return FrozenChoices(points, choices, canonical_digest({repr(b): key for b, key in keys.items()})[:16], dense)


def _key(budget: float, choice: Any) -> str:
    try:
        key = str(choice)
    except Exception as error:
        raise ChoiceError(
            f"budget {budget:g}: str(choice) of a {type(choice).__name__} raises {type(error).__name__}"
        ) from error
    if not 1 <= len(key) <= KEY_LENGTH or not key.isprintable() or key != key.strip() or key.startswith(FORMULA):
        raise ChoiceError(
            f"budget {budget:g}: choice key {one_line(repr(key), 60)}: str(choice) must have 1 to {KEY_LENGTH} "
            f"printable characters, no space at either end, and not start with {' '.join(FORMULA)}"
        )
    return key


def _sizes(adapted: Adapted, choice: Any, shape: measure.Shape) -> tuple[int, int]:
    module = adapted.module(choice)
    return measure.count_macs(module, shape), measure.count_params(module)


def _counted(budget: float, key: str | None, full_macs: int, sizes: Mapping[str, tuple[int, int]]) -> Point:
    if key is None:
        return Point(budget=budget, status="unreachable", reason="no choice at or under this budget")
    macs, params = sizes[key]
    allowed = budget * full_macs
    if macs > allowed * (1 + TOLERANCE):
        reason = f"over budget: {macs} MACs counted, {allowed:.0f} allowed"
        return Point(budget=budget, status="failed", key=key, macs=macs, params=params, reason=reason)
    return Point(budget=budget, status="ok", key=key, macs=macs, params=params)


def measure_choices(
    frozen: FrozenChoices,
    adapted: Adapted,
    select: Split,
    test: Split,
    shape: measure.Shape,
    batch: int,
    progress: Progress,
    keep_outputs: Collection[float] = (),
    seconds: float = 1.0,
) -> MeasuredPoints:
    """Measure each frozen choice once on ``test``; those for the suite's budgets are timed too, and their batch sizes
    compared on ``select``. ``keep_outputs``: budgets of the suite for which the logits are part of the answer;
    ``seconds``: of timing in all.
    """
    measured: dict[str, tuple[Point, bytes]] = {}
    outputs: dict[str, NDArray[np.float32]] = {}
    declared, timed = frozen.declared, {}
    wanted = {point.key for point in frozen.points if point.budget in keep_outputs}
    for done, (key, choice) in enumerate(frozen.choices.items()):
        progress("test", done, len(frozen.choices))
        point = next(point for point in (*frozen.points, *frozen.grid) if point.key == key and point.status == "ok")
        module = adapted.module(choice)
        tested, logits = _tested(point, module, test, batch)
        if key in wanted and logits is not None:
            outputs[key] = logits
        measured[key] = _checked(*tested, module, select) if key in declared else tested
        if key in declared and measured[key][0].status != "nan":
            timed[key] = module
    latencies = measure.latencies(timed, shape, seconds=seconds) if timed else {}
    for key, latency in latencies.items():
        point, bits = measured[key]
        measured[key] = point.model_copy(update={"latency_ms": round(latency.median_ms, 4)}), bits
    points, bitmaps = [], {}
    for point in frozen.points:
        if point.status != "ok" or point.key is None:
            points.append(point)
            continue
        result, bits = measured[point.key]
        points.append(result.model_copy(update={"budget": point.budget}))
        if bits:
            bitmaps[point.budget] = bits
    grid = tuple(_on_grid(point, measured) for point in frozen.grid)
    kept = {p.budget: outputs[p.key] for p in points if p.key in outputs and p.budget in bitmaps}
    chance = {} if test.labels.ndim == 1 else scores.chance_levels(test.labels, test.num_classes)
    return MeasuredPoints(tuple(points), bitmaps, grid, kept, measure.latency_noise(latencies), chance)


def _on_grid(point: Point, measured: Mapping[str, tuple[Point, bytes]]) -> Point:
    if point.status != "ok" or point.key is None:
        return point.model_copy(update={"params": None})
    result, _ = measured[point.key]
    return result.model_copy(update={"budget": point.budget, "params": None, "latency_ms": None})


def mark_suspicious(measured: MeasuredPoints, checks: Mapping[str, str]) -> MeasuredPoints:
    """Set the measured points to ``suspicious`` if a sanity check of the whole cell failed.

    ``checks``: name -> reason, "" if passed.
    """
    failed = "; ".join(f"{name}: {reason}" for name, reason in checks.items() if reason)
    if not failed:
        return measured

    def marked(point: Point) -> Point:
        reason = "; ".join(filter(None, [point.reason, failed]))
        usable = point.status in ("ok", "suspicious")
        return point.model_copy(update={"status": "suspicious", "reason": reason}) if usable else point

    return replace(measured, points=tuple(marked(point) for point in measured.points))


def _tested(
    point: Point, module: torch.nn.Module, test: Split, batch: int
) -> tuple[tuple[Point, bytes], NDArray[np.float32] | None]:
    """The point with its bitmap, and the logits, if they are finite."""
    try:
        outputs = measure.split_outputs(module, test, batch)
    except FloatingPointError as error:
        return (point.model_copy(update={"status": "nan", "reason": error_message(error)}), b""), None
    if test.labels.ndim > 1:
        return (_scored(point, outputs.logits, outputs.labels), b""), None
    bits = outputs.correct
    correct, n = int(bits.sum()), len(bits)
    counted = point.model_copy(update={"correct": correct, "n": n})
    logits: NDArray[np.float32] = outputs.logits.float().numpy()
    return (_with_faults(counted, _accuracy_faults(correct, n, test)), pack_bits(bits)), logits


def _scored(point: Point, logits: torch.Tensor, labels: torch.Tensor) -> Point:
    """The point of a task whose scores are not means over images."""
    values, bars = scores.split_scores(logits, labels), scores.chance_levels(labels, logits.shape[-1])
    faults = [
        f"{SCORES[name].title} {value:.3f} is not above chance {bars[name]:.3f}"
        for name, value in values.items()
        if value <= bars[name]
    ]
    return _with_faults(point.model_copy(update={"scores": values, "n": len(labels)}), faults)


def _checked(point: Point, bits: bytes, module: torch.nn.Module, select: Split) -> tuple[Point, bytes]:
    """The point, suspicious where predictions depend on the batch size."""
    if point.status == "nan":
        return point, bits
    try:
        agree = measure.predictions_agree(module, select, limit=COMPARED_IMAGES)
    except FloatingPointError as error:
        return point.model_copy(update={"status": "nan", "reason": error_message(error)}), b""
    return _with_faults(point, [] if agree else ["predictions differ between batch 1 and 64"]), bits


def _with_faults(point: Point, faults: Sequence[str]) -> Point:
    if not faults:
        return point
    reason = "; ".join(filter(None, [point.reason, *faults]))
    return point.model_copy(update={"status": "suspicious", "reason": reason})


def _accuracy_faults(correct: int, n: int, test: Split) -> list[str]:
    chance = 1 / test.num_classes
    majority = int(torch.bincount(test.labels, minlength=test.num_classes).max()) / n
    accuracy = correct / n
    return [
        f"accuracy {accuracy:.3f} is not above {name} {bar:.3f}"
        for name, bar in (("chance", chance), ("the majority class", majority))
        if accuracy <= bar
    ]


def cell_status(points: Sequence[Point]) -> tuple[Status, str]:
    """Status and reason of a cell by its points: the worst one, ``unreachable`` only if all are."""
    for status in ("failed", "nan", "suspicious"):
        bad = [point for point in points if point.status == status]
        if bad:
            return bad[0].status, "; ".join(f"budget {point.budget:g}: {point.reason}" for point in bad)
    if all(point.status == "unreachable" for point in points):
        return "unreachable", "no budget is reachable"
    return "ok", ""


def grid_notes(grid: Sequence[Point]) -> list[str]:
    """A note where budgets of the area have no answer; the cell has no area then."""
    bad = [point for point in grid if point.status not in USABLE]
    if not bad:
        return []
    return [f"no area: {len(bad)} of {len(grid)} budgets of the grid failed, first {bad[0].budget:g}: {bad[0].reason}"]
