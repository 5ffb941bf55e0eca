"""From a number of a table to its cells and their command, on a run of the quick suite as it was (golden/quick)."""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.commands import app, why_points
from harness.commands.options import CommandError, PointFilters
from harness.commands.why_points import NoPointError
from harness.results.results import Results

ROOT = Path(__file__).parents[3]
RAN = Path(__file__).parents[1] / "golden" / "quick"
KEPT = Results.read(RAN)
with (RAN / "points.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))


def told(**filters) -> str:
    return why_points.describe_points(
        why_points.select(KEPT.points, PointFilters(**filters), "points.csv"), KEPT.records, "quick"
    )


def test_a_number_of_the_table_leads_to_its_points():
    text = told(method=["ea_vit"], budget=[0.2])
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("ea_vit ")]) == 4 + 1  # two sets, two seeds; the mean
    mine = [row for row in ROWS if (row["method"], row["budget"]) == ("ea_vit", "0.2")]
    for row in mine:
        (line,) = [line for line in lines if row["cell"] in line and not line.startswith(("all", "run"))]
        assert f"{row['correct']} of {row['n']}" in line and row["key"] in line and "1d07350171ef" in line
    sets = {one: [float(row["accuracy"]) for row in mine if row["dataset"] == one] for one in ("digits", "mnist5k")}
    mean = sum(sum(values) / len(values) for values in sets.values()) / 2
    assert f"ea_vit at 20 %: {100 * mean:.1f} %, mean of the means of 2 data sets" in lines


def test_the_commands_name_exactly_what_was_asked():
    last, run = told(method=["matformer"], dataset=["digits"], budget=[0.6], seed=[1]).splitlines()[-2:]
    wanted = {"method": "matformer", "dataset": "digits", "budget": "0.6", "seed": "1"}
    (row,) = [row for row in ROWS if wanted.items() <= row.items()]
    assert last == f"all about one cell: eavit-bench why quick {row['cell']}"
    assert run.endswith("eavit-bench run quick --force --method matformer --dataset digits --seed 1")


def test_names_with_blanks_can_be_pasted():
    row = ROWS[0]
    points = KEPT.points.iloc[:1].assign(method="a method", dataset="it's")
    run = why_points.describe_points(points, {}, "my suite.toml").splitlines()[-1]
    words = shlex.split(run.split(": ")[1])
    assert words[:4] == ["eavit-bench", "run", "my suite.toml", "--force"]
    assert words[4:] == ["--method", "a method", "--dataset", "it's", "--seed", row["seed"]]


def test_what_was_not_reached_is_a_word_and_in_no_mean():
    text = told(method=["matformer"], budget=[0.2])
    assert text.count("unreachable") == 4
    assert "matformer at 20 %" not in text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"method": ["ea_vti"]}, "points.csv: --method ea_vti: no such point; allowed: ea_vit, .*; nearest: ea_vit"),
        ({"budget": [0.3]}, r"points.csv: --budget 0.3: no such point; allowed: 0.2, 0.4, 0.6, 0.8, 1"),
        ({"seed": [7]}, "--seed 7: no such point; allowed: 0, 1"),
    ],
)
def test_what_is_not_there_is_reported_with_what_is(asked, message):
    with pytest.raises(NoPointError, match=message):
        told(**asked)


def test_one_spelling_of_a_budget_is_as_good_as_another():
    assert told(method=["ea_vit"], budget=[1]) == told(method=["ea_vit"], budget=[1.00])


def test_filters_that_match_nothing_together_are_reported():
    points = KEPT.points[(KEPT.points["method"] == "ea_vit") == (KEPT.points["seed"] == 0)]
    with pytest.raises(NoPointError, match="no result matches all filters together"):
        why_points.select(points, PointFilters(method=["ea_vit"], seed=[1]), "points.csv")


def test_the_command_line_finds_them_in_a_clone_without_cells(tmp_path):
    shutil.copytree(RAN, tmp_path / "quick")
    words = ["why", str(ROOT / "suites" / "quick.toml"), "--results", str(tmp_path)]
    asked = CliRunner().invoke(app.app, [*words, "--method", "ea_vit", "--budget", "0.20"])
    assert asked.exit_code == 0 and asked.stdout.startswith("method  data set") and "1d07350171ef" in asked.stdout
    neither = CliRunner().invoke(app.app, words)
    assert isinstance(neither.exception, CommandError) and "give either a cell's id, or some of --method" in str(
        neither.exception
    )
    both = CliRunner().invoke(app.app, [*words[:2], "6dc2", *words[2:], "--seed", "0"])
    assert isinstance(both.exception, CommandError)
    about = CliRunner().invoke(app.app, [*words[:2], "6dc264b7", *words[2:]])
    assert about.exit_code == 0, about.exception
    assert "6dc264b7f16b61b2  ea_vit · digits · seed 0\nstatus: ok\n" in about.stdout
    assert "this is its line of records.jsonl" in about.stdout
