"""Which cells have to run: a table of what was asked and what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.jobs.scheduler import dependents
from harness.results.record import failed_record, now
from harness.sweep import pending
from harness.sweep.pending import Settings
from tests.harness import small
from tests.harness.small import acts
from tests.harness.sweep.stub_sweeps import cells_of, stubs


def settings(**changes: bool) -> Settings:
    return Settings(Path("runs"), 1, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (settings(), {"missing", "killed", "skipped"}),
        (settings(only_missing=True), {"missing"}),
        (settings(retry_failed=True), {"missing", "killed", "skipped", "failed", "oom", "nan", "timeout"}),
        (
            settings(force=True),
            {"missing", "killed", "skipped", "failed", "oom", "nan", "timeout", "ok", "unreachable", "suspicious"},
        ),
    ],
)
def test_what_runs_by_what_is_asked(options: Settings, runs: set[str]) -> None:
    states: list[Any] = "ok unreachable suspicious failed oom nan timeout killed skipped".split()
    cells = cells_of(small.suite(seeds=list(range(10))))
    kept = {
        cell.id: failed_record(cell, state, "", began=now(), environment={})
        for cell, state in zip(cells, states, strict=False)
    }
    named = {cell.id: state for cell, state in zip(cells, [*states, "missing"], strict=True)}
    assert {named[cell.id] for cell in pending.missing(cells, kept, options)} == runs


def test_users_come_along_and_count_for_what_they_need() -> None:
    a, b, c, d = acts("a", "b", "c", "d")
    cells = cells_of(stubs(a, {**b, "after": ["a"]}, {**c, "after": ["b"]}, d))
    by_name = {cell.method: cell.id for cell in cells}
    assert [cell.method for cell in pending.with_dependents(cells, {by_name["a"]}).values()] == ["a", "b", "c"]
    waiting = dependents({cell.id: cell.needs for cell in cells})
    assert {name: waiting[one] for name, one in by_name.items()} == {"a": 2, "b": 1, "c": 0, "d": 0}


@pytest.mark.parametrize(
    ("status", "reason", "given", "broken", "taken"),
    [
        ("ok", "", {}, [], True),
        ("ok", "", {"a": {"1.0": "k"}}, [], False),
        ("ok", "", {}, ["need"], False),
        ("failed", "exit code 1", {}, [], True),
        ("skipped", "data: none", {}, [], True),
        ("skipped", "needs a (killed)", {}, [], False),
        ("skipped", "needs a (killed)", {}, ["need"], True),
    ],
)
def test_what_another_run_put_there_is_taken_if_it_is_what_this_one_would_do(
    status: Any, reason: str, given: dict[str, dict[str, str]], broken: list[str], taken: bool
) -> None:
    (cell,) = cells_of(small.suite())
    record = failed_record(cell, status, reason, began=now(), environment={}).model_copy(update={"given": given})
    assert pending.is_answered(record, {}, broken) is taken
