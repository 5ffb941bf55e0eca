"""A small right suite as plain values, to be changed one key at a time; and a record of one of its cells."""

from __future__ import annotations

from typing import Any

from harness import plan
from harness.plan import Cell, Prints
from harness.results import record
from harness.results.record import PhaseCost, Point, Record
from harness.suite import Suite, parse

FAKES = "tests.harness.fakes"


def raw(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": "small",
        "budgets": [0.25, 1.0],
        "seeds": [0],
        "backbone": {"use": f"{FAKES}:backbone"},
        "input": {"size": 8, "channels": 1},
        "datasets": [{"name": "digits", "fit": 200, "select": 60, "test": 100}],
        "methods": [{"use": f"{FAKES}:steady"}],
    }
    return {**given, **changes}


def suite(**changes: Any) -> Suite:
    return parse(raw(**changes), "small.toml")


def prints(of: Suite, missing: str | None = None) -> Prints:
    """Prints that read nothing: every code and data set known by its name alone, ``missing`` not there."""
    uses = {of.backbone.use, *(method.use for method in of.methods)}
    called = {entry.name: f" {entry.use} {entry.options}" if entry.use else "" for entry in of.datasets}
    data = {entry.name: f"print of {entry.source}{called[entry.name]}" for entry in of.datasets}
    data = {name: None if name == missing else found for name, found in data.items()}
    return Prints(
        code={use: f"code of {use}" for use in uses},
        data=data,
        missing={name: "it is not here" for name, found in data.items() if found is None},
    )


def cells(of: Suite) -> tuple[Cell, ...]:
    return plan.cells(of, prints(of))


def acts(*names: str, **options: Any) -> list[dict[str, Any]]:
    """Methods for the stub, told apart by a tag."""
    return [{"name": name, "use": "any.where:stub", "options": {"tag": name, **options}} for name in names]


def record_of(cell: Cell, correct: int = 7, n: int = 16) -> Record:
    points = tuple(
        Point(budget=b, status="ok", key=f"w{i}", macs=10 + i, params=5, correct=correct, n=n, latency_ms=0.5)
        for i, b in enumerate(cell.content["budgets"])
    )
    moment = record.iso_time(record.now())
    return Record(
        cell=cell.id, suite=cell.suite, method=cell.method, dataset=cell.dataset, seed=cell.seed,
        identity=dict(cell.content), status="ok", points=points, full_macs=40, choice_hash="ab" * 8,
        ledger={"train": PhaseCost(seconds=1.5, forward_macs=2e12, backward_macs=1e12, images=3, steps=4)},
        environment=record.run_environment(1, None), started=moment, finished=moment, seconds=1.0,
    )  # fmt: skip
