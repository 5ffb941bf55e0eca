"""Checks without processes of their own: for tests, where each would import torch again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import code_digest, plan
from harness.commands import check, check_plugin
from harness.evaluation import execute
from harness.jobs.call import CallError
from harness.jobs.job import entry_function
from harness.plan import Prints
from harness.results.cell_files import Outcome
from harness.suite import Suite
from harness.sweep.cell_job import CellJob


def patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls and cells of :mod:`harness.commands.check_plugin` run in the process of the test."""
    monkeypatch.setattr(check_plugin, "call", called)
    monkeypatch.setattr(check, "call_each", called_each)
    monkeypatch.setattr(check_plugin, "_outcome", outcome)


def called(entry: str, payload: object, *limits: object) -> Any:
    try:
        return entry_function(entry)(payload)
    except Exception as error:
        raise CallError(f"{type(error).__name__}: {error}") from error


def called_each(entry: str, payloads: Sequence[object], *more: object) -> list[Any]:
    return [called(entry, payload) for payload in payloads]


def outcome(own: Suite, folder: Path) -> Outcome:
    uses = [own.backbone.use, *(method.use for method in own.methods)]
    prints = Prints(code_digest.digests(uses), {entry.name: None for entry in own.datasets}, {})
    (cell,) = plan.cells(own, prints)
    return execute.run_cell(CellJob(cell, own, {}), folder, lambda phase, done, total: None)
