from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from example_points import example, spoil
from sketches import few, save

from harness.reports.figures import figures
from harness.reports.figures.swap import replace_folder

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("svg", "pdf")  # pixels are tested with plots.py


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = save(few(), tmp_path_factory.mktemp("results") / "quick")
    figures.write(folder, "T", reference="ea_vit", kinds=KINDS)
    return {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}


def test_same_bytes_in_another_process_whatever_the_order_of_rows(first, tmp_path):
    save(few().sample(frac=1, random_state=3), tmp_path / "quick")
    code = (
        "import sys, matplotlib; from harness.reports.figures import figures; matplotlib.rcParams['font.size'] = 20; "
        "figures.write(sys.argv[1], 'T', reference='ea_vit', kinds=('svg', 'pdf'))"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "quick"], check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "quick" / "figures").iterdir()} == first


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
        done = figures.write(save(rows, tmp_path / name))
        assert [path.name for path in done.files] == ["README.md"]
        assert dict(done.skipped)["fronts"] == "nothing was measured"


def test_what_cannot_be_read_leaves_the_old_figures(tmp_path):
    replace_folder(tmp_path / "figures", {"old.svg": b"old"})
    (tmp_path / "points.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a table of points"):
        figures.write(tmp_path)
    assert (tmp_path / "figures" / "old.svg").read_bytes() == b"old"


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
    save(points, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = figures.write(tmp_path, "Ünïcode $x$", kinds=("svg",))
    assert all(path.parent == tmp_path / "figures" and len(path.name) < 110 for path in done.files)
    assert len({path.name for path in done.files}) == len(done.files)


def test_what_our_methods_report_is_drawn_and_not_skipped_for_its_form(tmp_path):
    """The forms of diagnostics are a contract between two houses that never import each other."""
    kept = ROOT / "results" / "quick"
    for name in ("points.csv", "records.jsonl"):
        shutil.copy(kept / name, tmp_path / name)
    found = figures.write(tmp_path, "T", reference="ea_vit", kinds=("svg",))
    assert not {"search-fronts", "search-progress", "coverage", "break-even"} & {name for name, _ in found.skipped}
