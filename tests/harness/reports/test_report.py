from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from example_points import example, spoil

from harness import suite
from harness.reports import report, stamp
from harness.results.cell_files import StoreError
from tests.harness import small

ROOT = Path(__file__).resolve().parents[3]
SUITE = small.suite(seeds=[0, 1], budgets=[0.2, 0.4, 0.6, 0.8, 1.0])
TABLES = ("table.md", "report.tex", "table.csv")


def folder(place: Path, points: pd.DataFrame) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    points.to_csv(place / "points.csv", index=False)
    return place


def own(points: pd.DataFrame) -> pd.DataFrame:
    """As if the small suite had them: one method, one data set."""
    return points.replace({"method": {"ea_vit": "steady"}, "suite": {"quick": "small"}})


POINTS = own(example(datasets=("digits",), methods=("ea_vit",)))


def build(place: Path, of: suite.Suite = SUITE, forms: tuple[report.Form, ...] = ()) -> report.Built:
    return report.write_report(place, of, place / "small.toml", forms)


def text_of(built: report.Built) -> str:
    return built.files[0].read_text(encoding="utf-8")


def read(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


def test_two_builds_give_the_same_bytes(tmp_path):
    place = folder(tmp_path / "small", POINTS)
    built = build(place, forms=report.FIGURES)
    first = read(place)
    assert {*TABLES, "pareto.png", "pareto.svg"} <= first.keys()
    assert built.files[0] == place / "table.md"
    inputs = {"points.csv", stamp.NAME, report.NAME}
    assert {path.name for path in built.files} == first.keys() - inputs | {"tex"}
    folder(place, POINTS.sample(frac=1, random_state=0))
    build(place, forms=report.FIGURES)
    second = read(place)
    assert {name: data for name, data in second.items() if name not in inputs} == {
        name: data for name, data in first.items() if name not in inputs
    }


def test_a_report_stands_until_what_it_was_made_of_changes(tmp_path):
    place = folder(tmp_path / "small", POINTS)
    built = build(place, forms=report.FIGURES)
    assert report.current_report(place, SUITE, place / "small.toml") == built
    (place / "cards.json").write_text("{}")
    assert report.current_report(place, SUITE, place / "small.toml") is None
    build(place, forms=report.FIGURES)
    (place / "tex" / "digits.tex").unlink()
    assert report.current_report(place, SUITE, place / "small.toml") is None


def test_a_table_of_a_data_set_that_is_gone_is_removed(tmp_path):
    place = folder(tmp_path / "small", POINTS)
    (place / "tex").mkdir()
    (place / "tex" / "letters.tex").write_text("old")
    build(place)
    assert "digits.tex" in {path.name for path in (place / "tex").iterdir()}
    assert not (place / "tex" / "letters.tex").exists()


def test_methods_are_set_against_the_suites_first_one(tmp_path):
    names = {"steady": "matformer", "greedy": "ea_vit"}
    of = small.suite(
        name="quick",
        methods=[{"use": f"{small.FAKES}:{use}", "name": name} for use, name in names.items()],
        datasets=[{"name": name, "fit": 200, "select": 60, "test": 100} for name in ("digits", "mnist5k")],
        seeds=[0, 1],
        budgets=[0.2, 0.4, 0.6, 0.8, 1.0],
    )
    place = folder(tmp_path / "quick", example(methods=("ea_vit", "matformer")))
    built = build(place, of, ("page",))
    assert "## Against matformer" in text_of(built)
    rows = (place / "differences.csv").read_text().splitlines()
    assert all(row.startswith("quick,matformer,ea_vit,") for row in rows[1:])
    assert "<summary>Against matformer</summary>" in (place / "report.html").read_text()


def test_no_cell_succeeded_builds_and_says_so(tmp_path):
    """Fault 30."""
    place = folder(tmp_path / "small", spoil(POINTS, POINTS.seed >= 0, "failed", "no luck"))
    built = build(place)
    assert "No cell succeeded" in text_of(built)
    assert "0 of 2 cells complete; 2 failed" in text_of(built)


def test_cells_that_were_planned_and_have_no_points_are_missing(tmp_path):
    place = folder(tmp_path / "small", POINTS[POINTS.seed == 0])
    assert "1 of 2 cells complete; 1 missing" in text_of(build(place))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.harness.reports.test_report import build
place, at = Path(sys.argv[1]), int(sys.argv[2])
replace, done = Path.replace, []
def cut(self, target):
    if len(done) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(target)
    return replace(self, target)
Path.replace = cut
build(place)
"""


@pytest.mark.parametrize(("at", "replaced"), [(0, 0), (2, 1)])  # report.tex is the first and has no number
def test_killed_while_it_builds_leaves_the_old_report(tmp_path, at, replaced):
    """Fault 33. Each file is the old one or the new one, the old ones all together before the first rename."""
    place = folder(tmp_path / "small", POINTS)
    build(place)
    old = read(place)
    new_points = POINTS.assign(accuracy=POINTS.accuracy - 0.1, correct=POINTS.correct - 50)
    folder(place, new_points)
    about = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", KILLED, place, str(at)], env=about, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = read(place)
    reference = folder(tmp_path / "other", new_points)
    build(reference)
    new = read(reference)
    changed = [name for name in TABLES if left[name] != old[name]]
    assert len(changed) == replaced
    assert all(left[name] == new[name] for name in changed)
    assert list(place.glob(".*.tmp"))
    build(place)
    assert not list(place.glob(".*.tmp"))
    assert {name: read(place)[name] for name in TABLES} == {name: new[name] for name in TABLES}


def test_what_cannot_be_drawn_leaves_the_old_report(tmp_path, monkeypatch):
    place = folder(tmp_path / "small", POINTS)
    build(place)
    old = read(place)
    folder(place, POINTS[POINTS.seed == 0])

    def broken(*_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("harness.reports.figures.pareto.pareto_files", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        build(place, forms=report.FIGURES)
    assert {name: read(place)[name] for name in TABLES} == {name: old[name] for name in TABLES}
    assert not list(place.glob(".*.tmp"))


def test_what_is_no_table_of_points_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"points\.csv.*`eavit-bench run` writes it"):
        build(tmp_path)
    (tmp_path / "points.csv").write_text("a,b\n")
    with pytest.raises(StoreError, match="without the columns"):
        build(tmp_path)


def test_results_of_another_recipe_are_separated_and_not_counted(tmp_path):
    """Run, change the suite, report: the old numbers are not those of the suite."""
    place = folder(tmp_path / "small", POINTS)
    assert "2 of 2 cells complete." in text_of(build(place))
    other = SUITE.model_copy(update={"budgets": (0.3, 1.0)})
    text = text_of(build(place, other))
    assert "No cell has a record yet: 2 planned." in text
    assert "Not counted: 10 rows of points.csv, of cells that the suite no longer names" in text
    more = SUITE.model_copy(update={"budgets": (*SUITE.budgets, 0.9)})
    assert "0 of 2 cells complete; 2 missing." in text_of(build(place, more)), (
        "without records names and budgets decide"
    )


def test_cards_and_reported_figures_lie_beside(tmp_path):
    place = folder(tmp_path / "small", POINTS)
    (place / "cards.json").write_text(json.dumps({"steady": {"title": "The steady one"}}))
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "reference")
    text = text_of(build(place))
    assert "The steady one" in text
    assert "## As reported, not measured here: Top-1 accuracy in % at 8 GMACs" in text
    assert "arXiv 2507.19360" in text
    (place / "cards.json").write_text("[1]")
    with pytest.raises(StoreError, match="method to card"):
        build(place)


def test_what_is_committed_is_what_the_report_makes_of_the_points(tmp_path):
    """Else a reader of results/ sees tables that no command gives: `tox run -e figures` makes them again."""
    kept, beside = ROOT / "results" / "quick", tmp_path / "quick"
    beside.mkdir()
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "reference")
    for name in ("points.csv", "records.jsonl", "cards.json", "correct.npz"):
        shutil.copy(kept / name, beside / name)
    build(beside, suite.load(ROOT / "suites" / "quick.toml"))
    fragments = [f"tex/{path.name}" for path in (kept / "tex").iterdir()]
    assert sorted(fragments) == sorted(f"tex/{path.name}" for path in (beside / "tex").iterdir())
    for name in (*TABLES, "differences.csv", *fragments):
        assert (beside / name).read_text(encoding="utf-8") == (kept / name).read_text(encoding="utf-8"), name
