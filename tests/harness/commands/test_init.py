"""The verb init: what it writes works as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness import suite
from harness.commands import check_plugin, init
from harness.commands.options import CommandError
from tests.harness.commands import in_process

ROOT = Path(__file__).resolve().parents[3]
SETS = ("--dataset", "digits", "--dataset", "own_signs")
ADDED = """
[[methods]]
name = "own_widths"
use = "own_widths:OwnWidths"

[[datasets]]
name = "own_signs"
use = "own_signs:own_signs"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    in_process.patch(monkeypatch)
    return tmp_path


def test_a_written_method_keeps_all_rules_and_is_short(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init.init("method", "own_widths")
    assert "eavit-bench check own_widths:OwnWidths" in capsys.readouterr().out
    body = (folder / "own_widths.py").read_text().partition("class OwnWidths")[2]
    assert len(body.splitlines()) < 35
    kind, verdicts = check_plugin.check_plugin("own_widths:OwnWidths", {"options": {}, "size": 24, "channels": 1})
    assert kind == "method" and len(verdicts) > 4
    assert [str(each) for each in verdicts if each.word != "passed"] == []


def test_a_written_data_set_keeps_all_rules(folder: Path) -> None:
    init.init("dataset", "own_signs")
    kind, verdicts = check_plugin.check_plugin("own_signs:own_signs", {"options": {}, "size": 24, "channels": 1})
    assert kind == "data set"
    assert [each.word for each in verdicts] == ["passed"] * 3


def test_a_written_metric_keeps_all_rules(folder: Path) -> None:
    init.init("metric", "own_gap")
    kind, verdicts = check_plugin.check_plugin("own_gap:own_gap", {"options": {}, "size": 24, "channels": 1})
    assert kind == "metric"
    assert [each.word for each in verdicts] == ["passed"] * 5


def test_a_written_selector_keeps_all_rules(folder: Path) -> None:
    init.init("selector", "own_rule")
    kind, verdicts = check_plugin.check_plugin("own_rule:own_rule", {"options": {}, "size": 24, "channels": 1})
    assert kind == "selector" and len(verdicts) > 10
    assert [each.rule for each in verdicts if each.word == "FAILED"] == []
    assert any(each.rule.startswith("the same seed gives the same choices") for each in verdicts)


def test_a_written_method_and_data_set_run_through_the_table_of_quick(folder: Path) -> None:
    init.init("method", "own_widths")
    init.init("dataset", "own_signs")
    quick = (ROOT / "suites" / "quick.toml").read_text().replace("seeds = [0, 1]", "seeds = [0]")
    quick = quick.replace('name = "quick"', 'name = "mine"').replace(
        "fit = 1000\nselect = 260", "fit = 200\nselect = 80\ntest = 80"
    )
    (folder / "mine.toml").write_text(quick + ADDED)
    run = [sys.executable, "-m", "harness.cli", "run", "mine.toml", "--method", "own_widths", *SETS]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EAVIT_DATA": str(folder / "data")}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    points = pd.read_csv(folder / "results" / "mine" / "points.csv")
    assert set(points["dataset"]) == {"digits", "own_signs"}
    assert len(points) == 2 * 5
    assert set(points["status"]) <= {"ok", "suspicious"}  # after so few steps
    assert points["correct"].sum() > 0.4 * points["n"].sum()
    table = (folder / "results" / "mine" / "table.md").read_text()
    assert "`own_widths`" in table
    assert "own_signs" in table


def test_a_written_suite_is_right(folder: Path) -> None:
    init.init("suite", "own_suite")
    assert suite.load(folder / "own_suite.toml").name == "own_suite"


def test_nothing_is_written_over_and_wrong_words_are_named(folder: Path) -> None:
    (folder / "mine.py").write_text("precious")
    with pytest.raises(CommandError, match=r"mine\.py: is there already; nothing was written"):
        init.init("dataset", "mine")
    assert (folder / "mine.py").read_text() == "precious"
    with pytest.raises(
        CommandError, match="init metod: unknown; allowed: method, dataset, metric, selector, suite; nearest: method"
    ):
        init.init("metod", "mine")
    for name in ("Mine", "my-method", "class", "random", ""):
        with pytest.raises(CommandError, match=f"name {name!r}"):
            init.init("method", name)
    assert [path.name for path in folder.iterdir()] == ["mine.py"]
