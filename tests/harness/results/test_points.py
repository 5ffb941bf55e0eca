"""The table of points: a row for each budget of each planned cell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from example_points import example, spoil

from harness.results import points
from harness.results.cell_files import Outcome, StoreError
from harness.results.record import failed_record, now, run_environment
from harness.statistics import frames
from tests.harness import small
from tests.harness.stored import CELLS, filled, some_cell


def test_points_follow_the_plan_and_its_names(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    kept.write(
        Outcome(
            failed_record(CELLS[2], "nan", 'loss, "nan"\nø', began=now(), environment=run_environment(1, None)),
            {},
            "log",
        )
    )
    planned = [dataclasses.replace(some_cell(seed), suite="renamed", dataset="a, b") for seed in (2, 0, 9)]
    rows = points.point_rows(planned, kept.records())
    assert [(row["suite"], row["dataset"], row["seed"], row["budget"]) for row in rows] == [
        ("renamed", "a, b", 2, 0.25), ("renamed", "a, b", 2, 1.0),
        ("renamed", "a, b", 0, 0.25), ("renamed", "a, b", 0, 1.0),
    ]  # fmt: skip
    assert [row["accuracy"] for row in rows] == [None, None, 7 / 16, 7 / 16]
    assert rows[2]["train_macs"] == 3 * 10**12
    points.write_points(tmp_path / "points.csv", rows)
    table, absent = points.read_points(tmp_path / "points.csv")
    assert absent == ()
    assert list(table.columns) == list(points.COLUMNS)
    assert table["status"].tolist() == ["nan", "nan", "ok", "ok"]
    assert table["reason"].tolist()[0] == 'loss, "nan"\nø'
    assert table["accuracy"].isna().tolist() == [True, True, False, False]
    assert table["accuracy"].tolist()[3] == 7 / 16


def test_columns_are_those_of_the_design() -> None:
    fixed = "suite,method,dataset,seed,budget,status,key,macs,params,correct,n,accuracy,train_macs,train_seconds,cell"
    assert ",".join(points.COLUMNS[:15]) == fixed


def test_reading_back_keeps_words_and_ids(tmp_path: Path) -> None:
    table = example(seeds=(0,), methods=("ea_vit",), datasets=("digits",))
    table["cell"] = "12e4567890123456"
    table = spoil(table, table.budget == 0.2, "nan", "NaN loss")
    table.to_csv(tmp_path / "points.csv", index=False)
    back, absent = points.read_points(tmp_path / "points.csv")
    assert back["status"].tolist() == ["nan", "ok", "ok", "ok", "ok"]
    assert set(back["cell"]) == {"12e4567890123456"}
    assert pd.isna(back["accuracy"][0])
    assert absent == ("search_macs", "regime", "data", "code", "counter", "area")
    assert back[list(absent)].isna().all().all()


def refused(tmp_path: Path, table: pd.DataFrame) -> str:
    table.to_csv(tmp_path / "points.csv", index=False)
    with pytest.raises(StoreError) as caught:
        points.read_points(tmp_path / "points.csv")
    return str(caught.value)


def test_what_is_no_table_of_points_is_refused_with_its_place(tmp_path: Path) -> None:
    good = example(seeds=(0,), methods=("ea_vit",), datasets=("digits",)).astype(object)
    assert refused(tmp_path, good.drop(columns=["cell", "n"])).endswith("without the columns n, cell")
    twice = refused(tmp_path, pd.concat([good, good.iloc[2:3]]))
    assert twice.endswith("points.csv: line 7: ea_vit · digits · seed 0 at 60 % occurs twice")
    for column, value, message in (
        ("status", "okay", "line 3: status: allowed: ok, "),
        ("accuracy", "0,9", "line 3: accuracy: '0,9' is not a number"),
        ("budget", None, "line 3: budget: empty; needs a number"),
    ):
        wrong = good.copy()
        wrong.loc[1, column] = value
        assert message in refused(tmp_path, wrong)
    for data in (b"", b"\xff\xfe", b'"'):
        (tmp_path / "points.csv").write_bytes(data)
        with pytest.raises(StoreError, match="not a table of points"):
            points.read_points(tmp_path / "points.csv")
    with pytest.raises(StoreError, match="No such file or directory; `eavit-bench run` writes it"):
        points.read_points(tmp_path / "none.csv")


def test_a_table_without_a_row_is_read(tmp_path: Path) -> None:
    points.write_points(tmp_path / "points.csv", [])
    table, _ = points.read_points(tmp_path / "points.csv")
    assert table.empty


def test_other_scores_have_columns_of_their_own_and_are_compared_as_accuracies_are(tmp_path: Path) -> None:
    of = small.suite(task="multi_label", score="auroc", budgets=[0.25, 1.0])
    cell = small.cells(of)[0]
    scores = {"mean_average_precision": 0.25, "auroc": 0.75}
    record = small.record_of(cell)
    changed = [p.model_copy(update={"correct": None, "scores": scores}) for p in record.points]
    record = record.model_copy(update={"points": tuple(changed), "data": {"classes": ["a"], "chance": {"auroc": 0.5}}})
    file = tmp_path / "points.csv"
    points.write_points(file, points.point_rows([cell], {cell.id: record}))
    assert file.read_text().splitlines()[0].endswith(",area,score,mean_average_precision,auroc,mean_iou,chance")
    raw = pd.read_csv(file)
    assert raw["accuracy"].isna().all() and raw["auroc"].tolist() == [0.75, 0.75]
    table, absent = points.read_points(file)
    assert (table["accuracy"].tolist(), table["chance"].tolist(), absent) == ([0.75, 0.75], [0.5, 0.5], ())
    assert frames.chance_by_set(table) == {"digits": 0.5}


def test_a_classification_has_none_of_these_columns(tmp_path: Path) -> None:
    cell = small.cells(small.suite())[0]
    points.write_points(tmp_path / "points.csv", points.point_rows([cell], {cell.id: small.record_of(cell)}))
    assert (tmp_path / "points.csv").read_text().splitlines()[0].endswith(",counter,area")
    assert b"scores" not in small.record_of(cell).model_dump_json().encode()
