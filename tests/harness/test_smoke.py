"""Suites made small: what is kept, what shrinks, and that all of it runs."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from harness import fingerprints, picture_plugins, plan, smoke, suite
from harness.commands.open_suite import OpenSuite
from harness.data import samples
from harness.data.listings import open_listing
from harness.suite import SOURCES, Suite
from tests.harness.test_cli import bench

SUITES = sorted(path for path in Path("suites").glob("*.toml") if not path.name.endswith(".claims.toml"))
PAPER = [path for path in SUITES if path.name.startswith("paper_")]


def small(path: Path, data: Path) -> Suite:
    return smoke.smoke_suite(picture_plugins.located(suite.load(path)), data)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_small_suite_is_a_suite_that_says_so(path: Path, tmp_path: Path) -> None:
    whole, made = suite.load(path), small(path, tmp_path)
    assert Suite.model_validate_json(made.model_dump_json()) == made
    assert made.name == f"{whole.name}_smoke" and "no result" in made.title
    assert [m.name for m in made.methods] == [m.name for m in whole.methods]
    assert [d.name for d in made.datasets] == [d.name for d in whole.datasets]
    assert (made.schedule.epochs, made.seeds) == (1.0, whole.seeds[:1])
    assert (made.budgets[0], made.budgets[-1], len(made.budgets)) == (whole.budgets[0], whole.budgets[-1], 3)


def test_options_that_count_work_shrink_wherever_they_stand_and_others_stay(tmp_path: Path) -> None:
    options = {m.name: m.options for m in small(Path("suites/paper_main.toml"), tmp_path).methods}
    assert options["ea_vit"] == {
        "stage1": {"curriculum": "published", "tying": "shared", "min_depth": 0.0},
        "stage2": {"share": 0.5, "cycle": "own", "warmup_steps": 4},
        "search": {"population": 8, "generations": 1},
    }
    assert options["ofa"] == {"evaluations": 8}
    assert options["sortednet_our_members"] == {"members": {"draw": 0.0, "micro_batches": 4}}
    assert options["snapvit"] == {"images": 32, "search": {"evaluations": 16}}


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_data_is_written_in_the_files_of_the_sets_and_each_method_and_set_has_a_cell(
    path: Path, tmp_path: Path
) -> None:
    made = small(path, tmp_path)
    smoke.write_samples(made.datasets)
    for entry in made.datasets:
        assert entry.use is not None and str(entry.path).startswith(str(tmp_path))
        assert len(open_listing(entry.use, entry.options, entry.path, download=False).classes) in (3, 10, 19, 21)
    code = dict.fromkeys((made.backbone.use, *(method.use for method in made.methods)), "0" * 64)
    data = {entry.name: f"{index:064}" for index, entry in enumerate(made.datasets)}
    cells = smoke.few_cells(plan.cells(made, plan.Prints(code, data, {})))
    assert {cell.dataset for cell in cells} == {entry.name for entry in made.datasets}
    assert sorted(cell.method for cell in cells if cell.dataset == made.datasets[0].name) == sorted(
        method.name for method in made.methods
    )
    assert len(cells) == len(made.methods) + len(made.datasets) - 1


def test_a_cell_brings_those_that_it_needs_on_every_set() -> None:
    def cell(id_: str, method: str, dataset: str, needs: tuple[str, ...] = ()) -> plan.Cell:
        return plan.Cell(id_, "s", method, dataset, 0, needs, {})

    cells = [cell(f"{m}{d}", m, d, () if m == "b" else (f"b{d}",)) for d in "xy" for m in "ba"]
    assert [c.id for c in smoke.few_cells(cells[::-1])] == ["ay", "by", "ax", "bx"]
    assert smoke.few_cells([]) == ()


TWO = """
name = "two"
regime = "equal_macs"
budgets = [0.4, 1.0]
seeds = [0, 1]
[backbone]
use = "eavit.weights:timm_vit"
options = { tag = "vit_base_patch16_224.augreg_in21k" }
[input]
size = 224
resize = 256
channels = 3
[schedule]
epochs = 200.0
batch = 256
clip = 0.0
[[datasets]]
name = "dermamnist"
use = "harness.data.published:medmnist"
options = { set = "dermamnist", size = 64 }
augment = "imagenet_crop_flip"
reading = "disk"
[[methods]]
use = "eavit.methods:ea_vit"
options = { stage2 = { cycle = "own", warmup_steps = 1000 }, search = { population = 100, generations = 301 } }
"""


def test_the_command_runs_it_and_touches_no_results(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(TWO)
    done = bench("run", "two.toml", "--smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no number of it is a result" in done.stdout and "two_smoke: 1 cells run" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"two.toml", "runs"}
    rows = (tmp_path / "runs/smoke/results/two_smoke/points.csv").read_text().splitlines()
    assert len(rows) == 3 and all(row.startswith("two_smoke,ea_vit,dermamnist,0,") for row in rows[1:])
    assert "no result" in (tmp_path / "runs/smoke/results/two_smoke/table.md").read_text()


def test_smokes_that_fail_are_named_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, ran = runpy.run_path(".ci/smokes.py"), []

    def run(opened: OpenSuite, *more: object, smoke: bool) -> None:
        ran.append(opened.suite.name)
        raise typer.Exit(int(opened.suite.name == "two_smoke"))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EAVIT_DATA", "")  # restored after the test: a smoke sets it
    monkeypatch.setitem(script["main"].__globals__, "run_opened", run)
    for name in ("two", "three"):
        (tmp_path / f"{name}.toml").write_text(TWO.replace('"two"', f'"{name}"'))
    assert script["main"](["missing.toml", "two.toml", "three.toml"]) == 1
    assert ran == ["two_smoke", "three_smoke"]
    assert "failed: missing.toml, two.toml\n" in capsys.readouterr().out
    assert script["main"](["three.toml"]) == 0


def test_a_smoke_takes_no_folder_of_results(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(TWO)
    done = bench("run", "two.toml", "--smoke", "--results", "elsewhere", cwd=tmp_path)
    assert done.returncode == 2 and "--smoke cannot go with --results" in done.stderr
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"folder", "listing", "fashion_mnist"}))
def test_built_in_sets_are_large_enough_for_their_classes(source: str, tmp_path: Path) -> None:
    classes = {"letters": 37, "glyphs": 32}.get(source, 10)
    table = tomllib.loads(TWO) | {"datasets": [{"name": source}]}
    entry = smoke.smoke_suite(suite.parse(table, "two.toml"), tmp_path).datasets[0]
    assert (entry.fit or 0) >= classes and (entry.select or 0) >= 2 * classes and (entry.test or 0) >= classes


@pytest.mark.parametrize("name", sorted(samples.OTHER_WRITERS))
def test_sources_without_a_function_are_written_too(name: str, tmp_path: Path) -> None:
    source: dict[str, Any] = tomllib.loads(TWO)
    source["datasets"] = [{"name": "set", "source": name, "path": "nowhere"}]
    made = smoke.smoke_suite(suite.parse(source, "two.toml"), tmp_path)
    smoke.write_samples(made.datasets)
    prints = fingerprints.prints_of(made, tmp_path / "prints")
    assert not prints.missing and prints.fit["set"] > 10
