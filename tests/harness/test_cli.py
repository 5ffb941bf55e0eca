"""The command line: verbs, exit codes, what is printed; a second run without torch or children."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import cli, fingerprints, plan
from harness.commands.open_suite import OpenSuite
from harness.commands.options import Which
from harness.results.bitmaps import read_bitmaps
from harness.results.store import Store
from tests.harness import small
from tests.harness.small import FAKES

ROOT = Path(__file__).resolve().parents[2]
SUITE = f"""
name = "tiny"
title = "A tiny suite"
budgets = [0.25, 1.0]
seeds = [0]
[backbone]
use = "{FAKES}:backbone"
[input]
size = 8
channels = 1
[[datasets]]
name = "digits"
fit = 200
select = 60
test = 100
[[methods]]
use = "{FAKES}:steady"
[[methods]]
name = "follows"
use = "{FAKES}:follower"
options = {{ of = "steady" }}
after = ["steady"]
"""
NAN = f"""
[[methods]]
name = "bad"
use = "{FAKES}:breaks"
options = {{ how = "nan" }}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a suite in it."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.toml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str, capsys: Any) -> tuple[int, str, str]:
    """Exit code, what was printed, and what was complained about, in this process."""
    before, path = sys.argv, list(sys.path)
    sys.argv = ["eavit-bench", *words]
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv, sys.path[:] = before, path
    said = capsys.readouterr()
    return code, said.out, said.err


def bench(*words: str, cwd: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """In a process of its own; ``code`` runs first."""
    program = f"import sys; sys.argv[0] = 'eavit-bench'\n{code}\nfrom harness import cli; cli.main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=400)


NO_TORCH = """
import subprocess
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "timm", "torchvision"):
            raise ImportError("torch was imported: " + name)
sys.meta_path.insert(0, Wall())
real = subprocess.Popen.__init__
def start(self, args, *rest, **more):
    if "git" not in str(args[0]):
        raise RuntimeError("a child was started")
    real(self, args, *rest, **more)
subprocess.Popen.__init__ = start
"""


def test_a_suite_from_nothing_to_table_and_again_without_torch(place: Path) -> None:
    first = bench("run", "tiny", "--workers", "2", cwd=place)
    assert first.returncode == 0, first.stderr
    assert "tiny: 2 cells run, 0 kept" in first.stdout
    for name in ("points.csv", "table.md"):
        assert f"results/tiny/{name}" in first.stdout
        assert (place / "results" / "tiny" / name).stat().st_size > 0
    plots = [line for line in first.stdout.splitlines() if line.endswith((".png", ".svg"))]
    assert {Path(line).suffix for line in plots} == {".png", ".svg"}
    assert all((place / line).stat().st_size > 0 for line in plots)
    assert first.stdout.count("| method") == 1, "one table, all others are in table.md"
    assert "Look at next:" in first.stdout
    points = (place / "results" / "tiny" / "points.csv").read_bytes()
    assert str(place).encode() not in b"".join(path.read_bytes() for path in (place / "results").rglob("*.json"))

    again = bench("run", "tiny", cwd=place, code=NO_TORCH)
    assert again.returncode == 0, again.stderr
    assert "tiny: 0 cells run, 2 kept" in again.stdout
    table = place / "results" / "tiny" / "table.csv"
    made = table.stat().st_mtime_ns
    assert bench("run", "tiny", cwd=place, code=NO_TORCH).returncode == 0
    assert table.stat().st_mtime_ns == made  # of the same points by the same program: not made again
    table.unlink()
    assert bench("run", "tiny", cwd=place, code=NO_TORCH).returncode == 0
    assert table.is_file()
    priced = bench("plan", "tiny", cwd=place, code=NO_TORCH)
    assert "tiny: 2 cells, 2 hit, 0 to run" in priced.stdout, priced.stderr
    assert (place / "results" / "tiny" / "points.csv").read_bytes() == points

    shutil.rmtree(place / "results" / "tiny" / "cells")
    report = bench("report", "tiny", cwd=place, code=NO_TORCH)
    assert report.returncode == 0, report.stderr
    assert "results/tiny/table.md" in report.stdout
    bitmaps = read_bitmaps(place / "results" / "tiny" / "correct.npz")

    part = bench("run", "tiny", "--method", "steady", cwd=place)
    assert "tiny: 1 cells run, 0 kept" in part.stdout, part.stderr
    kept = (place / "results" / "tiny" / "points.csv").read_bytes()
    assert [row for row in kept.splitlines() if b",follows," in row] == [
        row for row in points.splitlines() if b",follows," in row
    ], "rows of cells that were not asked for and are not there"
    assert read_bitmaps(place / "results" / "tiny" / "correct.npz").keys() == bitmaps.keys()


def test_plug_ins_that_exit_or_raise_cost_their_own_cells_and_the_run_ends_with_1(place: Path) -> None:
    for name, text in {
        "exits": "import os; os._exit(0)",
        "leaves": "class M:\n    adapt = print\n    def __init__(self): raise SystemExit(0)",
        "later": "class M:\n    name, api = 'later', 7\n    def adapt(self, task): ...",
    }.items():
        (place / f"{name}_plugin.py").write_text(text)
        with (place / "suites" / "tiny.toml").open("a") as file:
            file.write(f'[[methods]]\nname = "{name}"\nuse = "{name}_plugin:M"\n')
    done = bench("run", "tiny", "--workers", "2", cwd=place)
    assert done.returncode == 1, done.stderr
    assert "warning: suites/tiny.toml: methods[2]: the process that checked it failed: exit code 0" in done.stderr
    assert "warning: suites/tiny.toml: methods[3]: the process that checked it failed: SystemExit: 0" in done.stderr
    assert "warning: suites/tiny.toml: methods[4]: use = 'later_plugin:M': was written for api = 7" in done.stderr
    states = {record.method: record.status for record in Store(place / "results" / "tiny").records().values()}
    failed = dict.fromkeys(("exits", "leaves", "later"), "failed")
    assert states == {"steady": "ok", "follows": "ok", **failed}


LIGHT_CHECK = """
from harness.commands import check
check.ENTRY, check.DEADLINE = "tests.harness.commands.checked:check_part", 5.0
"""


def test_a_plug_in_that_hangs_costs_one_deadline_and_not_that_of_each_cell(place: Path) -> None:
    (place / "hangs_plugin.py").write_text("import time; time.sleep(3600)")
    with (place / "suites" / "tiny.toml").open("a") as file:
        for name in ("two", "hangs"):  # the stand-in of the check hangs at the fourth method
            file.write(f'[[methods]]\nname = "{name}"\nuse = "hangs_plugin:{name}"\n')
    done = bench("run", "tiny", "--method", "hangs", cwd=place, code=LIGHT_CHECK)
    assert done.returncode == 1, done.stderr
    assert "methods[3]: the process that checked it failed: not done after 5 s" in done.stderr
    (record,) = Store(place / "results" / "tiny").records().values()
    assert (record.status, record.reason) == ("timeout", "its check was not done after 5 s; not started")
    assert not (place / "runs").exists() or not list((place / "runs").rglob("job.json"))


def test_a_failed_cell_is_named_with_why_and_what_to_do(place: Path, capsys: Any) -> None:
    (place / "suites" / "tiny.toml").write_text(SUITE + NAN)
    done = bench("run", "suites/tiny.toml", "--method", "bad", "--results", "kept", cwd=place)
    assert done.returncode == 1, done.stderr
    assert "nan: bad · digits · seed 0: loss is nan at step 3 (" in done.stderr
    assert "; log: runs/tiny/" in done.stderr
    assert "run them again with: eavit-bench run suites/tiny.toml --retry-failed" in done.stderr
    assert (place / "kept" / "tiny" / "points.csv").read_text().count(",nan,") == 2
    code, out, _ = call("status", "tiny", "--results", "kept", capsys=capsys)
    assert code == 0
    assert "tiny: 3 cells: 2 missing, 1 nan" in out
    assert "loss is nan at step 3" in out
    code, out, _ = call("plan", "tiny", "--results", "kept", capsys=capsys)
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["miss", "miss", "hit"]
    assert "tiny: 3 cells, 1 hit, 2 to run" in out
    code, out, _ = call("plan", "tiny", "--results", "kept", "--retry-failed", capsys=capsys)
    assert "0 hit, 3 to run" in out


def test_a_store_is_looked_after_from_the_command_line(place: Path, capsys: Any) -> None:
    """why, verify, merge and gc on a real store: whole, damaged, copied, and with a cell that nobody names."""
    assert bench("run", "tiny", "--method", "steady", cwd=place).returncode == 0
    cell = next((place / "results" / "tiny" / "cells").iterdir())
    code, out, _ = call("why", "tiny", cell.name[:6], capsys=capsys)
    assert (code, "ok" in out) == (0, True)
    assert "eavit-bench run tiny --method steady --dataset digits --seed 0" in out
    code, _, err = call("why", "tiny", "zz", capsys=capsys)
    assert (code, "no cell begins with 'zz'" in err) == (2, True)
    assert call("verify", "tiny", capsys=capsys)[0] == 0

    whole = (cell / "record.json").read_bytes(), (cell / "correct.npz").read_bytes()
    shutil.rmtree(cell)  # as in a fresh clone, where only what is committed is there
    code, out, _ = call("restore", "tiny", capsys=capsys)
    assert (code, "1 cells restored, 0 records are of another plan" in out) == (0, True)
    assert ((cell / "record.json").read_bytes(), (cell / "correct.npz").read_bytes()) == whole
    assert "0 cells restored" in call("restore", "tiny", capsys=capsys)[1]

    shutil.copytree(place / "results" / "tiny", place / "copy")
    code, out, _ = call("merge", "results/tiny", "copy", capsys=capsys)
    assert (code, "0 cells written" in out) == (0, True)
    record = place / "copy" / "cells" / cell.name / "record.json"
    record.write_bytes(record.read_bytes()[:-9])
    code, _, err = call("merge", "results/tiny", "copy", capsys=capsys)
    assert (code, "damaged" in err) == (1, True)
    shutil.copy(record, cell / "record.json")
    code, _, err = call("verify", "tiny", capsys=capsys)
    assert (code, cell.name in err) == (1, True)

    shutil.copytree(place / "copy", place / "results" / "tiny", dirs_exist_ok=True)
    (cell.parent / "abcd").mkdir()
    code, out, _ = call("gc", "tiny", capsys=capsys)
    assert (code, "abcd: no plan names it" in out, (cell.parent / "abcd").exists()) == (0, True, True)
    code, out, _ = call("gc", "tiny", "--yes", capsys=capsys)
    assert (code, "removed" in out, (cell.parent / "abcd").exists()) == (0, True, False)


def test_models_are_kept_where_asked(place: Path, capsys: Any) -> None:
    method = '[[methods]]\nname = "keeper"\nuse = "{}:keeper"\noptions = {{ how = "{}" }}\n'
    suite = (
        SUITE.partition("[[methods]]")[0]
        + method.format(FAKES, "")
        + method.format(FAKES, "no room").replace('"keeper"', '"forgetful"', 1)
    )
    (place / "suites" / "tiny.toml").write_text(suite)
    done = bench("run", "tiny", "--keep", cwd=place)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("kept: ")]
    title, _, folder = line.removeprefix("kept: ").rpartition(": ")
    assert title == "keeper · digits · seed 0"
    assert (place / folder / "weights").read_text() == "digits of 10 classes"
    assert "not kept: forgetful · digits · seed 0: no room" in done.stderr

    code, out, _ = call("run", "tiny", "--keep", capsys=capsys)
    assert (code, "tiny: 0 cells run, 2 kept" in out, line in out) == (0, True, True)
    shutil.rmtree(place / "runs")
    _, out, err = call("run", "tiny", "--keep", capsys=capsys)
    assert "kept: " not in out
    assert "2 finished cells have no kept model, for they ran without --keep: keeper · digits · seed 0;" in err
    assert "eavit-bench run tiny --keep --force" in err
    code, _, err = call("run", "tiny", "--keep", "--engine", "ray", "--address", "local", capsys=capsys)
    assert (code, "--keep needs --engine local" in err) == (2, True)


def test_options_that_contradict_are_refused(place: Path, capsys: Any) -> None:
    code, _, err = call("run", "tiny", "--only-missing", "--force", capsys=capsys)
    assert (code, "--only-missing" in err) == (2, True)
    code, _, err = call("run", "tiny", "--engine", "ray", capsys=capsys)
    assert (code, "--address" in err) == (2, True)


def test_a_run_out_of_time_says_so_and_goes_on_later(place: Path) -> None:
    done = bench("run", "tiny", "--max-hours", "0", cwd=place)
    assert done.returncode == 3, done.stderr
    assert "continue with: eavit-bench run tiny" in done.stderr
    assert bench("run", "tiny", cwd=place).returncode == 0


def test_only_what_is_asked_for_and_what_it_needs_is_chosen() -> None:
    a, b, c = small.acts("a", "b", "c")
    suite = small.suite(methods=[a, {**b, "after": ["a"]}, c], seeds=[0, 1])

    opened = OpenSuite("small", Path("small.toml"), suite, Path("results"), Path("runs"))
    opened.__dict__["prints"] = small.prints(suite)

    def chosen(**which: Any) -> list[tuple[str, int]]:
        return [(cell.method, cell.seed) for cell in opened.chosen(Which(**which))]

    assert chosen(method=["b"], seed=[1]) == [("a", 1), ("b", 1)]
    assert chosen(method=["c"]) == [("c", 0), ("c", 1)]
    assert len(chosen()) == 6


def test_an_unknown_choice_names_the_nearest(place: Path, capsys: Any) -> None:
    code, _, err = call("run", "tiny", "--method", "stead", "--dataset", "digit", capsys=capsys)
    assert code == 2
    assert "--method stead: not in this suite; allowed: steady, follows; nearest: steady" in err
    code, _, err = call("run", "tiny", "--seed", "7", capsys=capsys)
    assert (code, "--seed 7: not in this suite; allowed: 0" in err) == (2, True)


def test_an_unknown_suite_names_the_nearest(place: Path, capsys: Any) -> None:
    code, out, err = call("plan", "tinny", capsys=capsys)
    assert code == 2
    assert "no such suite" in err
    assert "nearest: suites/tiny.toml" in err
    assert "Traceback" not in out + err


def test_a_wrong_option_stops_before_any_work(place: Path, capsys: Any) -> None:
    (place / "suites" / "tiny.toml").write_text(SUITE.replace("of =", "off ="))
    code, _, err = call("run", "tiny", capsys=capsys)
    assert code == 2
    assert "suites/tiny.toml: methods[1]: " in err
    assert "options.off: unknown option; allowed: of; nearest: of" in err
    assert "nothing was run" in err
    assert not list((place / "results").rglob("record.json"))


def test_check_tells_all_faults_at_once(place: Path, capsys: Any) -> None:
    text = SUITE.replace("of =", "off =").replace(":backbone", ":backbon")
    text += '[[methods]]\nuse = "no_such_house:x"\n[[datasets]]\nname = "mine"\nsource = "folder"\npath = "nowhere"\n'
    (place / "suites" / "tiny.toml").write_text(text)
    code, out, err = call("check", "tiny", capsys=capsys)
    assert code == 1
    for said in ("backbone: ", "nearest: backbone", "methods[1]: ", "methods[2]: ", "datasets[1]: ", "nowhere"):
        assert said in err
    assert "digits: 10 classes; fit 200" in out


def test_check_passes_a_right_suite(place: Path, capsys: Any) -> None:
    code, out, err = call("check", "tiny", capsys=capsys)
    assert (code, err) == (0, "")
    assert "tiny: no fault; 2 cells" in out


def test_a_store_that_cannot_be_written_stops_before_any_work(place: Path, capsys: Any) -> None:
    (place / "results").write_text("a file")
    code, _, err = call("run", "tiny", capsys=capsys)
    assert code == 2
    assert "the store cannot be written" in err


def test_a_report_without_points_says_so(place: Path, capsys: Any) -> None:
    code, _, err = call("report", "tiny", capsys=capsys)
    assert code == 2
    assert "points.csv" in err
    assert "eavit-bench run" in err


def test_a_run_interrupted_before_any_cell_still_reports(place: Path, capsys: Any, monkeypatch: Any) -> None:
    from harness.sweep import sweep

    def interrupted(*args: Any) -> sweep.Summary:
        return sweep.Summary({}, interrupted=True)

    monkeypatch.setattr(sweep, "run", interrupted)
    code, out, err = call("run", "tiny", capsys=capsys)
    assert code == 130
    assert "0 of 2 cells" in out or "2 planned" in out
    assert "continue with: eavit-bench run tiny" in err


def test_nothing_that_succeeded_is_still_a_report(place: Path, capsys: Any) -> None:
    """All cells failed: the report builds, says so, and the exit code is 1."""
    from harness import suite
    from harness.results.cell_files import Outcome
    from harness.results.record import failed_record, now, run_environment

    given = suite.load(place / "suites" / "tiny.toml")
    kept = Store(place / "results" / "tiny")
    kept.prepare()
    for cell in plan.cells(given, fingerprints.prints_of(given)):
        kept.write(Outcome(failed_record(cell, "oom", "no memory", began=now(), environment=run_environment(1, None))))
    code, out, err = call("run", "tiny", capsys=capsys)
    assert code == 1
    assert "oom" in out
    assert err.count("oom: ") == 2


def test_list_and_version(capsys: Any) -> None:
    assert call("--version", capsys=capsys)[1].strip()
    code, out, err = call("list", capsys=capsys)
    assert code in (0, 2)
    assert "methods:" in out
    assert code == 0 or "cannot be imported" in err


def test_no_verb_is_help(capsys: Any) -> None:
    out = "".join(call(capsys=capsys)[1:])
    assert all(verb in out for verb in ("plan", "run", "status", "report", "list", "check"))
