"""Values of a suite's metrics: taken once of what cells keep, read from the file afterwards, missing with a reason."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.jobs.call import CallError
from harness.reports import metric_values
from harness.reports.metric_values import NOT_KEPT, gather_values, values_csv
from harness.results import cell_files, points
from harness.results.cell_files import Outcome, StoreError
from harness.results.store import Store
from harness.suite import MetricSpec
from tests.harness import small, stored
from tests.harness.commands import in_process

HERE = "tests.harness.made_metrics"
LOGITS = np.array([[2.0, 0.0], [0.0, 1.0]], dtype=np.float32)
RIGHT, FIRST = MetricSpec(use=f"{HERE}:share_right"), MetricSpec(use=f"{HERE}:first_logit", options={"times": 0.1})
RAISES = MetricSpec(use=f"{HERE}:raises", name="bad")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cells; the last one keeps no outputs."""
    store = Store(tmp_path)
    store.prepare()
    packed, _ = cell_files.pack_outputs(np.array([0, 0]), {0.25: LOGITS, 1.0: 3 * LOGITS})
    for cell in stored.CELLS:
        store.write(Outcome(small.record_of(cell), outputs=packed if cell.seed < 2 else b""))
    points.write_points(tmp_path / "points.csv", points.point_rows(stored.CELLS, store.records()))
    return tmp_path


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of cells that metrics were called on; no process is started."""
    asked: list[int] = []

    def call_each(entry: str, payloads: Sequence[Any], *more: object) -> list[Any]:
        asked.extend(len(payload["cells"]) for payload in payloads)
        return in_process.called_each(entry, payloads)

    monkeypatch.setattr(metric_values, "call_each", call_each)
    return asked


def gathered(folder: Path, *specs: MetricSpec) -> pd.DataFrame:
    return gather_values(folder, specs, points.read_points(folder / "points.csv")[0])


def test_each_metric_has_a_row_for_each_point(folder: Path) -> None:
    rows = gathered(folder, RIGHT, FIRST, RAISES)
    assert list(rows.columns) == list(metric_values.COLUMNS)
    assert rows["metric"].tolist() == ["share_right"] * 6 + ["first_logit"] * 6 + ["bad"] * 6
    assert rows["budget"].tolist() == [0.25, 1.0] * 9
    assert rows["value"].tolist()[:4] == [0.5] * 4
    assert rows["value"].tolist()[6:10] == pytest.approx([0.2, 0.6, 0.2, 0.6])
    assert rows["value"].isna().tolist() == ([False] * 4 + [True] * 2) * 2 + [True] * 6
    assert rows["reason"].tolist()[4:6] == [NOT_KEPT] * 2
    assert rows["reason"].tolist()[12:] == ["RuntimeError: no luck"] * 4 + [NOT_KEPT] * 2


def test_a_suite_without_metrics_has_none(folder: Path) -> None:
    assert len(gathered(folder)) == 0


def test_a_value_is_taken_once_and_outlives_its_cell(folder: Path, calls: list[int]) -> None:
    text = values_csv(gathered(folder, RIGHT, FIRST))
    assert calls == [2, 2]
    (folder / metric_values.NAME).write_text(text)
    (folder / "cells").rename(folder / "gone")
    assert values_csv(gathered(folder, RIGHT, FIRST)) == text
    assert pd.read_csv(io.StringIO(text))["value"].notna().sum() == 8
    assert calls == [2, 2]
    changed = gathered(folder, FIRST.model_copy(update={"options": {"times": 0.2}}))
    assert changed["reason"].tolist() == [NOT_KEPT] * 6


def test_a_metric_that_ends_its_process_costs_its_own_values(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [CallError("the process ended:\nexit code 3"), {stored.CELLS[0].id: {"0.25": {"value": 7.0}}}]
    monkeypatch.setattr(metric_values, "call_each", lambda *given: answers)
    rows = gathered(folder, RIGHT, FIRST)
    assert rows["reason"].tolist()[:6] == ["the process ended: exit code 3"] * 6
    assert rows["value"].tolist()[6] == 7.0


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / metric_values.NAME).write_text("a,b\n1,2\n")
    with pytest.raises(StoreError, match=r"metrics\.csv: no table of metrics: .*delete it"):
        gathered(folder, RIGHT)
