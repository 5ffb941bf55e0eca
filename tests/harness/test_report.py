from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from example_points import example, spoil

from harness import plan, suite
from harness.reports import report
from harness.reports.report import ReportError
from harness.results import bitmaps, cell_files
from harness.results.store import StoreError
from harness.statistics import frames
from tests.harness import small

ROOT = Path(__file__).resolve().parents[2]
SUITE = small.suite(seeds=[0, 1], budgets=[0.2, 0.4, 0.6, 0.8, 1.0])
TABLES = ("table.md", "table.tex", "table.csv")


def folder(place: Path, points: pd.DataFrame) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    points.to_csv(place / "points.csv", index=False)
    return place


def own(points: pd.DataFrame) -> pd.DataFrame:
    """As if the small suite had them: one method, one data set."""
    return points.replace({"method": {"ea_vit": "steady"}, "suite": {"quick": "small"}})


POINTS = own(example(datasets=("digits",), methods=("ea_vit",)))


def read(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


def test_two_builds_give_the_same_bytes(tmp_path):
    place = folder(tmp_path / "small", POINTS)
    built = report.build(place, SUITE, 2)
    first = read(place)
    assert {*TABLES, "pareto.png", "pareto.svg"} <= first.keys()
    assert built.files[0] == place / "table.md"
    inputs = {"points.csv", report.STAMP}
    assert {path.name for path in built.files} == first.keys() - inputs
    folder(place, POINTS.sample(frac=1, random_state=0))
    report.build(place, SUITE, 2)
    second = read(place)
    assert {name: data for name, data in second.items() if name not in inputs} == {
        name: data for name, data in first.items() if name not in inputs
    }


def test_a_report_stands_until_what_it_was_made_of_changes(tmp_path):
    place = folder(tmp_path / "small", POINTS)
    built = report.build(place, SUITE, 2)
    assert report.standing(place, SUITE) == built
    (place / "cards.json").write_text("{}")
    assert report.standing(place, SUITE) is None
    report.build(place, SUITE, 2)
    (place / "table.tex").unlink()
    assert report.standing(place, SUITE) is None


def test_methods_are_set_against_the_suites_first_one(tmp_path):
    names = {"steady": "matformer", "greedy": "ea_vit"}
    suite = small.suite(
        name="quick",
        methods=[{"use": f"{small.FAKES}:{use}", "name": name} for use, name in names.items()],
        datasets=[{"name": name, "fit": 200, "select": 60, "test": 100} for name in ("digits", "mnist5k")],
        seeds=[0, 1],
        budgets=[0.2, 0.4, 0.6, 0.8, 1.0],
    )
    place = folder(tmp_path / "quick", example(methods=("ea_vit", "matformer")))
    built = report.build(place, suite, 8, forms=("page",))
    assert "## Against matformer" in built.text
    rows = (place / "differences.csv").read_text().splitlines()
    assert all(row.startswith("quick,matformer,ea_vit,") for row in rows[1:])
    assert "<summary>Against matformer</summary>" in (place / "report.html").read_text()


def test_no_cell_succeeded_builds_and_says_so(tmp_path):
    """Fault 30."""
    place = folder(tmp_path / "small", spoil(POINTS, POINTS.seed >= 0, "failed", "no luck"))
    built = report.build(place, SUITE, 2, forms=())
    assert "No cell succeeded" in built.text
    assert "0 of 2 cells complete; 2 failed" in built.text


def test_cells_that_were_planned_and_have_no_points_are_missing(tmp_path):
    place = folder(tmp_path / "small", POINTS[POINTS.seed == 0])
    assert "1 of 2 cells complete; 1 missing" in report.build(place, SUITE, 2, forms=()).text


KILLED = """
import os, signal, sys
from pathlib import Path
from harness.reports import report
from tests.harness.test_report import SUITE
place, at = Path(sys.argv[1]), int(sys.argv[2])
replace, done = Path.replace, []
def cut(self, target):
    if len(done) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(target)
    return replace(self, target)
Path.replace = cut
report.build(place, SUITE, 2, forms=())
"""


@pytest.mark.parametrize("at", [0, 2])
def test_killed_while_it_builds_leaves_the_old_report(tmp_path, at):
    """Fault 33. Each file is the old one or the new one, the old ones all together before the first rename."""
    place = folder(tmp_path / "small", POINTS)
    report.build(place, SUITE, 2, forms=())
    old = read(place)
    new_points = POINTS.assign(accuracy=POINTS.accuracy - 0.1, correct=POINTS.correct - 50)
    folder(place, new_points)
    about = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", KILLED, place, str(at)], env=about, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = read(place)
    reference = folder(tmp_path / "other", new_points)
    report.build(reference, SUITE, 2, forms=())
    new = read(reference)
    changed = [name for name in TABLES if left[name] != old[name]]
    assert len(changed) == at
    assert all(left[name] == new[name] for name in changed)
    assert list(place.glob(".report-*"))
    report.build(place, SUITE, 2, forms=())
    assert not list(place.glob(".report-*"))
    assert {name: read(place)[name] for name in TABLES} == {name: new[name] for name in TABLES}


def test_what_cannot_be_drawn_leaves_the_old_report(tmp_path, monkeypatch):
    place = folder(tmp_path / "small", POINTS)
    report.build(place, SUITE, 2, forms=())
    old = read(place)
    folder(place, POINTS[POINTS.seed == 0])

    def broken(*_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setitem(report.MAKERS, "figures", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        report.build(place, SUITE, 2)
    assert {name: read(place)[name] for name in TABLES} == {name: old[name] for name in TABLES}
    assert not list(place.glob(".report-*"))


def test_what_is_no_table_of_points_is_told(tmp_path):
    with pytest.raises(ReportError, match=r"points\.csv.*`eavit-bench run` writes it"):
        report.build(tmp_path, SUITE, 2)
    (tmp_path / "points.csv").write_text("a,b\n")
    with pytest.raises(ReportError, match="without the columns"):
        report.build(tmp_path, SUITE, 2)


def test_cards_and_reported_figures_lie_beside(tmp_path):
    place = folder(tmp_path / "small", POINTS)
    (place / "cards.json").write_text(json.dumps({"steady": {"title": "The steady one"}}))
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "reference")
    text = report.build(place, SUITE, 2, forms=()).text
    assert "The steady one" in text
    assert "## As reported, not measured here: Top-1 accuracy in % at 8 GMACs" in text
    assert "arXiv 2507.19360" in text
    (place / "cards.json").write_text("[1]")
    with pytest.raises(ReportError, match="method to card"):
        report.build(place, SUITE, 2, forms=())


# --- bitmaps ----------------------------------------------------------------------------------------------------


def stored(place: Path, n: int = 16, correct: int = 7) -> pd.DataFrame:
    """Two whole cells with their bitmaps, and their points."""
    suite = small.suite(seeds=[0, 1])
    rows = []
    for cell in plan.cells(suite, small.prints(suite)):
        record = small.record_of(cell, correct, n)
        bits = {point.budget: cell_files.pack(np.arange(n) < correct) for point in record.points}
        cell_files.save(cell_files.Outcome(record, bits), place / "cells" / cell.id)
        rows += [
            {"cell": cell.id, "budget": point.budget, "status": "ok", "correct": correct, "n": n}
            for point in record.points
        ]
    return pd.DataFrame(rows).assign(accuracy=correct / n, macs=1)


def test_bitmaps_outlive_the_cells_byte_for_byte(tmp_path):
    points = stored(tmp_path)
    found = bitmaps.gather(tmp_path, points)
    assert len(found) == 4
    assert all(bits.sum() == 7 and len(bits) == 16 for bits in found.values())
    data = bitmaps.encode(found)
    (tmp_path / bitmaps.NAME).write_bytes(data)
    shutil.rmtree(tmp_path / "cells")
    again = bitmaps.gather(tmp_path, points)
    assert bitmaps.encode(again) == data
    assert bitmaps.encode(dict(reversed(list(again.items())))) == data


def test_bitmaps_of_another_run_are_left_out(tmp_path):
    points = stored(tmp_path)
    points.loc[0, "correct"] = 8
    assert len(bitmaps.gather(tmp_path, points)) == 3


def test_a_cut_file_of_bitmaps_is_told(tmp_path):
    path = tmp_path / bitmaps.NAME
    path.write_bytes(bitmaps.encode(bitmaps.gather(tmp_path, stored(tmp_path)))[:-40])
    with pytest.raises(StoreError, match=r"correct\.npz: holds no bitmaps"):
        bitmaps.read(path)
    path.write_bytes(bitmaps.encode({}))
    assert bitmaps.read(path) == {}


def test_points_of_committed_results_are_read():
    points = frames.read_points(ROOT / "results" / "quick" / "points.csv")
    assert bitmaps.gather(ROOT / "results" / "quick", points) is not None


def test_what_is_committed_is_what_the_report_makes_of_the_points(tmp_path):
    """Else a reader of results/ sees tables that no command gives: `tox run -e figures` makes them again."""
    kept, beside = ROOT / "results" / "quick", tmp_path / "quick"
    beside.mkdir()
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "reference")
    for name in ("points.csv", "records.jsonl", "cards.json", "correct.npz"):
        shutil.copy(kept / name, beside / name)
    given = suite.load(ROOT / "suites" / "quick.toml")
    report.build(beside, given, plan.count(given))
    for name in (*TABLES, "differences.csv"):
        assert (beside / name).read_text(encoding="utf-8") == (kept / name).read_text(encoding="utf-8"), name
