"""The whole road with the real methods: a suite in real processes, killed in the middle and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
SUITE = """
name = "road"
budgets = [0.3, 1.0]
seeds = [0]

[backbone]
use = "eavit.weights:pico_letters"

[input]
size = 24
channels = 1

[schedule]
epochs = 2.0
batch = 32

[[datasets]]
name = "digits"
fit = 200
select = 80
test = 100

[[methods]]
use = "eavit.methods:ea_vit"
options = { search = { population = 12, generations = 2 } }

[[methods]]
use = "eavit.methods:fixed_same_shape"
after = ["ea_vit"]

[[methods]]
use = "eavit.methods:matformer"
"""
SAME = ["method", "dataset", "seed", "budget", "status", "key", "macs", "params", "correct", "n", "train_macs", "cell"]


def start(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    place.mkdir(exist_ok=True)
    (place / "road.toml").write_text(SUITE, encoding="utf-8")
    command = [sys.executable, "-m", "harness.cli", "run", "road.toml", "--workers", "2", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes]) -> str:
    text = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, text
    return text


def points(place: Path) -> pd.DataFrame:
    return pd.read_csv(place / "results" / "road" / "points.csv", dtype={"cell": str})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole")
    finish(start(place))
    return place


def test_a_run_leaves_points_table_and_plot_and_obeys_its_budgets(whole: Path) -> None:
    rows = points(whole)
    folder = whole / "results" / "road"
    assert {"records.jsonl", "table.md", "pareto.png", "pareto.svg"} <= {file.name for file in folder.iterdir()}
    assert set(rows.status) <= {"ok", "unreachable"}
    assert len(rows) == 6
    done = rows[rows.status == "ok"]
    assert (done.macs <= done.budget * done.full_macs).all()
    low = rows[(rows.method == "matformer") & (rows.budget == 0.3)]
    assert low.status.item() == "unreachable"
    assert low.accuracy.isna().all()
    shapes = rows.pivot_table(index="method", columns="budget", values="key", aggfunc="first")
    assert shapes.loc["ea_vit"].equals(shapes.loc["fixed_same_shape"].rename("ea_vit"))
    assert done[(done.budget == 1) & (done.method != "ea_vit")].accuracy.min() > 0.5


def test_a_record_leads_back_to_what_was_run(whole: Path) -> None:
    rows = points(whole)
    folder = whole / "results" / "road"
    record = json.loads((folder / "cells" / rows.cell[0] / "record.json").read_text())
    kept = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert [line["cell"] for line in kept] == list(dict.fromkeys(rows.cell))
    assert kept[0] == record
    assert set(rows.classes) == {10}
    assert record["identity"]["schedule"]["epochs"] == 2.0
    assert {"prepare", "train", "search", "route"} <= set(record["ledger"])
    assert record["diagnostics"]["on_fold_b"]
    assert str(whole) not in json.dumps(record)


def test_a_second_run_trains_nothing(whole: Path) -> None:
    before = points(whole)
    text = finish(start(whole))
    assert "0 cells run" in text
    pd.testing.assert_frame_equal(points(whole), before)


def test_killed_in_the_middle_and_run_again_gives_the_same_points(whole: Path, tmp_path: Path) -> None:
    """SIGKILL to the run itself, twice: while the first cells adapt, and once one of them is kept."""
    place = tmp_path / "killed"
    for reached in ("**/*.safetensors", "results/road/cells/*/sha256"):
        process = start(place)
        patience = time.monotonic() + 120
        while not list(place.glob(reached)) and process.poll() is None and time.monotonic() < patience:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(place))
    pd.testing.assert_frame_equal(points(place)[SAME], points(whole)[SAME])
