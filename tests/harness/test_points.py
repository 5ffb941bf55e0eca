"""The table of points: a row for each budget of each planned cell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness.results import points
from harness.results.record import environment, failure, now
from harness.results.store import Outcome
from tests.harness.stored import CELLS, filled, some_cell


def test_points_follow_the_plan_and_its_names(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    kept.write(
        Outcome(failure(CELLS[2], "nan", 'loss, "nan"\nø', began=now(), environment=environment(1, None)), {}, "log")
    )
    planned = [dataclasses.replace(some_cell(seed), suite="renamed", dataset="a, b") for seed in (2, 0, 9)]
    rows = kept.points(planned)
    assert [(row["suite"], row["dataset"], row["seed"], row["budget"]) for row in rows] == [
        ("renamed", "a, b", 2, 0.25), ("renamed", "a, b", 2, 1.0),
        ("renamed", "a, b", 0, 0.25), ("renamed", "a, b", 0, 1.0),
    ]  # fmt: skip
    assert [row["accuracy"] for row in rows] == [None, None, 7 / 16, 7 / 16]
    assert rows[2]["train_macs"] == 3 * 10**12
    points.write(tmp_path / "points.csv", rows)
    from harness.statistics.frames import read_points

    table = read_points(tmp_path / "points.csv")
    assert list(table.columns) == list(points.COLUMNS)
    assert table["status"].tolist() == ["nan", "nan", "ok", "ok"]
    assert table["reason"].tolist()[0] == 'loss, "nan"\nø'
    assert table["accuracy"].isna().tolist() == [True, True, False, False]
    assert table["accuracy"].tolist()[3] == 7 / 16


def test_columns_are_those_of_the_design() -> None:
    fixed = "suite,method,dataset,seed,budget,status,key,macs,params,correct,n,accuracy,train_macs,train_seconds,cell"
    assert ",".join(points.COLUMNS[:15]) == fixed
