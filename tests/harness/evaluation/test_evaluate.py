"""Points of a cell: their status, and what they say of the cell."""

from __future__ import annotations

from typing import Any

import pytest

from harness.evaluation import evaluate
from harness.evaluation.evaluate import MeasuredPoints
from harness.results.record import Point


def test_the_worst_point_names_the_cell() -> None:
    def points(*statuses: Any) -> list[Point]:
        return [Point(budget=i / 10, status=status, reason=f"r{i}") for i, status in enumerate(statuses)]

    assert evaluate.cell_status(points("ok", "unreachable"))[0] == "ok"
    assert evaluate.cell_status(points("unreachable", "unreachable"))[0] == "unreachable"
    assert evaluate.cell_status(points("suspicious", "ok", "failed")) == ("failed", "budget 0.2: r2")
    assert evaluate.cell_status(points("suspicious", "nan"))[0] == "nan"


def test_a_failed_check_of_the_cell_marks_what_was_measured() -> None:
    points = (
        Point(budget=0.2, status="ok", key="a"),
        Point(budget=0.4, status="suspicious", key="b", reason="r"),
        Point(budget=0.6, status="nan", key="c", reason="n"),
    )
    measured = MeasuredPoints(points, {0.2: b"x"})
    assert evaluate.mark_suspicious(measured, {"check": ""}) == measured
    marked = evaluate.mark_suspicious(measured, {"check": "why", "other": ""})
    assert [(point.status, point.reason) for point in marked.points] == [
        ("suspicious", "check: why"),
        ("suspicious", "r; check: why"),
        ("nan", "n"),
    ]
    assert marked.bitmaps == measured.bitmaps


@pytest.mark.parametrize("key", ["e384-h6x12-m1536x10.0x2", "(0.5, 1)", "k" * 200, "größe 3"])
def test_keys_of_all_kinds_are_taken_as_they_are(key: str) -> None:
    assert evaluate._key(0.5, key) == key
