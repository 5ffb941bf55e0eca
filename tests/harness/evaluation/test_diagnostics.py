"""Reports of methods as JSON, or a note; threads that are left running."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from harness.evaluation.diagnostics import MAX_DEPTH, method_report, running_threads


class Reports:
    def __init__(self, value: Any) -> None:
        self.value = value

    def report(self) -> Any:
        return self.value


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels - 2):
        value = [value]
    return {"a": value}


def test_a_report_becomes_plain_json() -> None:
    value = {"a": np.float32(0.5), "b": (1, float("nan")), 3: np.arange(2), "c": "\ud800é", "d": object}
    report, notes = method_report(Reports(value))  # type: ignore[arg-type]
    assert report == {"a": 0.5, "b": [1, "NaN"], "3": [0, 1], "c": "?é", "d": "<class 'object'>"}
    assert notes == []
    assert method_report(object()) == ({}, [])  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1, 990, 100_000])
def test_the_depth_of_a_report_is_bounded(levels: int) -> None:
    report, notes = method_report(Reports(nested(levels)))  # type: ignore[arg-type]
    assert bool(report) == (levels <= MAX_DEPTH)
    assert len(notes) == (levels > MAX_DEPTH)


def test_a_property_that_raises_is_dropped_too() -> None:
    class Broken:
        @property
        def report(self) -> Any:
            raise KeyError("no")

    assert method_report(Broken()) == ({}, ["report() was dropped: KeyError: 'no'"])  # type: ignore[arg-type]


def test_threads_left_running_are_named_and_daemons_are_not() -> None:
    before, stop = running_threads(), threading.Event()
    threads = [threading.Thread(target=stop.wait, name="w", daemon=daemon) for daemon in (True, False)]
    for thread in threads:
        thread.start()
    (note,) = running_threads()
    stop.set()
    for thread in threads:
        thread.join()
    assert "'w'" in note
    assert running_threads() == before
