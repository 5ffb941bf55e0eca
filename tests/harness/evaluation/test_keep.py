"""A cell that keeps its model has the outcome of one that does not, whatever its method does with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.evaluation import keep
from harness.evaluation.execute import run_cell
from harness.results import kept_models
from harness.results.cell_files import Outcome
from harness.results.maintenance import differences
from harness.sweep.cell_job import CellJob
from tests.harness import small
from tests.harness.evaluation.test_execute import same_globals  # noqa: F401  # a fixture
from tests.harness.sweep.stub_sweeps import cells_of


def outcome(folder: Path, method: str, model: Path | None, **options: str) -> Outcome:
    suite = small.suite(methods=[{"use": f"{small.FAKES}:{method}", "options": options}])
    task = CellJob(cell=cells_of(suite)[-1], suite=suite, given={})
    return run_cell(task, folder, lambda phase, done, total: None, model)


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("keeper", {}, ""),
        ("keeper", {"how": "no room"}, "no room"),
        ("steady", {}, "the method's answer (Family) has no save()"),
    ],
)
def test_keeping_changes_no_outcome(tmp_path: Path, method: str, options: dict[str, str], reason: str) -> None:
    place = kept_models.model_folder(tmp_path, "ab")
    place.parent.mkdir()
    kept = outcome(tmp_path, method, place, **options)
    assert kept.record.status == "ok"
    assert differences(outcome(tmp_path, method, None, **options), kept) == []
    assert kept_models.fault_of_model(tmp_path, "ab") == reason
    assert (place / "weights").is_file() == (not reason)


def test_a_model_of_another_task_is_not_kept_and_says_why(tmp_path: Path) -> None:
    place = kept_models.model_folder(tmp_path, "ab")
    place.parent.mkdir()
    keep.keep_model(SimpleNamespace(), place, SimpleNamespace(score="auroc"), {})  # type: ignore[arg-type]
    assert "score auroc: kept models have an accuracy" in str(kept_models.fault_of_model(tmp_path, "ab"))
