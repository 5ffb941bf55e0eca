"""Metrics of one's own: what is one, what it may give, and its values of the outputs of a cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness import metrics
from harness.metrics import MetricError, metric_value
from harness.plugins import PluginError
from harness.results import cell_files
from harness.results.cell_files import Outcome
from tests.harness import made_metrics, small, stored

HERE = "tests.harness.made_metrics"
LOGITS = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]], dtype=np.float32)
LABELS = np.array([0, 1])


def test_one_number_or_one_for_each_image() -> None:
    assert metric_value(made_metrics.share_right, {}, LOGITS, LABELS) == 0.5
    assert metric_value(made_metrics.first_logit, {"times": 3.0}, LOGITS, LABELS) == 6.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not_finite", "gave nan"),
        ("per_class", r"gave float32 of shape \(3,\) for 2 images, not one number or one for each image"),
    ],
)
def test_what_is_no_number_is_refused(name: str, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        metric_value(getattr(made_metrics, name), {}, LOGITS, LABELS)


def test_outputs_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        metric_value(made_metrics.greedy_for_memory, {}, LOGITS.copy(), LABELS)


@pytest.mark.parametrize("name", ["untold", "other_words"])
def test_what_does_not_say_that_it_is_a_metric_is_not_called(name: str) -> None:
    with pytest.raises(PluginError, match="does not say that it is a metric: it must take logits and labels"):
        metrics.load_metric(f"{HERE}:{name}", {})


def test_options_are_checked_before_anything_is_measured() -> None:
    metrics.load_metric(f"{HERE}:first_logit", {"times": 2.0})
    with pytest.raises(PluginError, match=r"options\.tims: unknown option; allowed: times; nearest: times"):
        metrics.load_metric(f"{HERE}:first_logit", {"tims": 2.0})
    with pytest.raises(PluginError, match=r"options\.times: 'two'"):
        metrics.load_metric(f"{HERE}:first_logit", {"times": "two"})


def test_values_of_a_cell_are_those_of_its_outputs(tmp_path: Path) -> None:
    cell = stored.CELLS[0]
    packed, _ = cell_files.pack_outputs(LABELS, {0.25: LOGITS, 1.0: -LOGITS})
    cell_files.save_outcome(Outcome(small.record_of(cell), outputs=packed), tmp_path / "with")
    cell_files.save_outcome(Outcome(small.record_of(cell), outputs=b"none"), tmp_path / "damaged")
    cells = {name: str(tmp_path / name) for name in ("with", "damaged", "missing")}
    request = {"use": f"{HERE}:first_logit", "options": {"times": 2.0}, "cells": cells}
    assert metrics.measure_cells(request) == {
        "with": {"0.25": {"value": 4.0}, "1.0": {"value": -4.0}},
        "damaged": {},
        "missing": {},
    }
    raising = metrics.measure_cells({"use": f"{HERE}:raises", "options": {}, "cells": {"with": cells["with"]}})
    assert raising["with"]["1.0"] == {"reason": "RuntimeError: no luck"}
