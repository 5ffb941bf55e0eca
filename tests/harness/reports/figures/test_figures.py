from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from example_points import example, spoil
from sketches import few, of

from harness import suite
from harness.reports import report
from harness.reports.figures import figures

ROOT = Path(__file__).resolve().parents[4]
KINDS = ("svg", "pdf")  # pixels are tested with plots.py


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    figures.write_figures(of(few(), reference="ea_vit"), folder, KINDS)
    return {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}


def test_same_bytes_in_another_process_whatever_the_order_of_rows(first, tmp_path):
    code = (
        "import sys, matplotlib; from pathlib import Path; from sketches import few, of\n"
        "from harness.reports.figures import figures; matplotlib.rcParams['font.size'] = 20\n"
        "points = few().sample(frac=1, random_state=3)\n"
        "figures.write_figures(of(points, reference='ea_vit'), Path(sys.argv[1]), ('svg', 'pdf'))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT / "tests")}
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, env=environment)
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == first


def test_nothing_in_a_file_tells_when_or_with_what(first):
    assert not [
        name for name, data in first.items() if b"CreationDate" in data or b"dc:date" in data or b"Software" in data
    ]
    assert all(b"Matplotlib v" not in data for data in first.values())


def test_the_list_names_what_is_there_and_why_some_is_not(first):
    text = first["README.md"].decode()
    assert all(name.rpartition(".")[0] in text for name in first if name != "README.md")
    assert "critical-difference: 2 methods have a whole curve on every set: needs 3" in text
    assert "search-fronts: there are no records beside the points" in text


def test_no_points_and_nothing_measured_still_give_a_list(tmp_path):
    points = example(seeds=(0,))
    for name, rows in (("none", points.iloc[:0]), ("failed", spoil(points, points.seed == 0, "failed"))):
        done = figures.write_figures(of(rows), tmp_path / name)
        assert [path.name for path in done.files] == ["README.md"]
        assert dict(done.skipped)["fronts"] == "nothing was measured"


def test_figures_that_are_no_longer_drawn_are_removed(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_bytes(b"old")
    done = figures.write_figures(of(example(seeds=(0,)).iloc[:0]), tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["README.md"] == [p.name for p in done.files]


def test_two_figures_never_share_a_file(tmp_path):
    """A data set may be called as one of our figures, or as another in letters of another case."""
    assert figures.file_stem("fronts-A", ["fronts-a"]) == "fronts-A-2"
    assert figures.file_stem("x", ["x", "X-2"]) == "x-3"
    points = example(seeds=(0,), methods=("ea_vit",), datasets=("mean", "Mean"))
    done = figures.write_figures(of(points), tmp_path, ("svg",))
    names = [path.name.lower() for path in done.files]
    assert len({*names}) == len(names)
    assert {"fronts-mean.svg", "fronts-mean-2.svg", "fronts-mean-3.svg"} <= {*names}


def test_rows_that_are_not_counted_are_said(tmp_path):
    figures.write_figures(
        of(example(methods=("ea_vit",)), unplanned=example(methods=("matformer",))), tmp_path, ("svg",)
    )
    assert "Not counted: 20 rows of points.csv" in (tmp_path / "figures" / "README.md").read_text()


def test_drawing_does_not_import_torch():
    code = (
        "import sys, harness.reports.figures.figures; sys.exit(any(name in sys.modules for name in ('torch', 'eavit')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_strange_names_are_no_trouble(tmp_path):
    names = {"ea_vit": "$\\frac{x" + "é" * 300, "matformer": "_数据/../\n%s {0}", "slice_untrained": "<&>\"'"}
    points = example(seeds=(0,), methods=tuple(names), datasets=("digits",))
    points["method"] = points["method"].map(names)
    points["dataset"] = "../" + "ü" * 300 + "$"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = figures.write_figures(of(points, title="Ünïcode $x$"), tmp_path, ("svg",))
    assert all(path.parent == tmp_path / "figures" and len(path.name) < 110 for path in done.files)
    assert len({path.name for path in done.files}) == len(done.files)


def test_what_our_methods_report_is_drawn_and_not_skipped_for_its_form(tmp_path):
    """The forms of diagnostics are a contract between two packages that never import each other."""
    quick = suite.load(ROOT / "suites" / "quick.toml")
    found = figures.write_figures(report.read_report_data(ROOT / "results" / "quick", quick), tmp_path, ("svg",))
    assert not {"search-fronts", "search-progress", "coverage", "break-even"} & {name for name, _ in found.skipped}
