"""What a person at the command line meets when something ends a run: exit codes and words, with the real program."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import plan
from harness.results import store
from harness.results.cell_files import Outcome
from harness.results.store import Store
from tests.faults import light
from tests.harness import small
from tests.harness.mounts import mounted
from tests.harness.sweep.stub_sweeps import run, stubs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fingerprint of the one data set, which takes seconds to make."""
    place = tmp_path_factory.mktemp("cache")
    light.suite(place, "few", 1, 1, 1)
    bench(place, "-m", "harness.cli", "plan", "few.toml").communicate(timeout=120)
    return place / "runs"


@pytest.fixture
def place(tmp_path: Path, cache: Path) -> Path:
    shutil.copytree(cache, tmp_path / "runs")
    (tmp_path / "marks").mkdir()
    return tmp_path


FULL = -9  # in place of a pipe: a device that is full


def bench(place: Path, *words: str, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    with Path("/dev/full").open("w") as full:
        to = full if out == FULL else out
        return subprocess.Popen(command, cwd=place, env=environment, stdout=to, stderr=to, text=True)


def start(place: Path, *words: str, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """``run`` with cells of milliseconds, whose numbers need no torch."""
    victim = ("-m", "tests.faults.victim", "light", "0", "whole", str(place / "kills"))
    return bench(place, *victim, "run", *words, out=out)


def statuses(place: Path, name: str = "few") -> list[str]:
    with (place / "results" / name / "points.csv").open(newline="") as file:
        return [row["status"] for row in csv.DictReader(file)]


def test_ctrl_c_in_the_middle_keeps_what_is_done_and_ends_with_130(place: Path) -> None:
    light.suite(place, "few", 2, 1, 40)
    at_work = start(place, "few.toml", "--workers", "1")
    until = time.monotonic() + 60
    while len(list(place.glob("results/few/cells/[0-9a-f]*/sha256"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    at_work.send_signal(signal.SIGINT)
    out, err = at_work.communicate(timeout=20)
    assert at_work.returncode == 130, err
    assert "interrupted; continue with: eavit-bench run few.toml" in err
    assert "cells run" in out
    kept = len(list(place.glob("results/few/cells/[0-9a-f]*/sha256")))
    assert 3 <= kept < 80
    assert statuses(place).count("ok") == 2 * kept
    assert not list(place.glob("results/few/locks/*"))


def test_ctrl_c_while_modules_are_imported_ends_with_130(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", "from harness.cli import main; main()", "plan", "any"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("stream", ["closed", "full"])
def test_a_run_whose_output_is_closed_does_its_cells(place: Path, stream: str) -> None:
    light.suite(place, "few", 2, 1, 2)
    at_work = start(place, "few.toml", "--workers", "1", out=subprocess.PIPE if stream == "closed" else FULL)
    for pipe in (at_work.stdout, at_work.stderr):
        if pipe is not None:
            pipe.close()
    assert at_work.wait(180) == (1 if stream == "full" else 0), "output that a disk has lost is a failure"
    assert statuses(place) == ["ok"] * 8


def test_an_interrupt_while_a_cell_is_written_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before the write is on the disk: the cell is there all the same, and told as there by the same run."""
    flush = store.flush_folder

    def interrupted(folder: Path) -> None:
        if folder.name == "cells":
            os.kill(os.getpid(), signal.SIGINT)
        flush(folder)

    monkeypatch.setattr(store, "flush_folder", interrupted)
    summary = run(stubs(*small.acts("a", "b")), tmp_path, workers=1)
    assert summary.interrupted
    assert [record.method for record in summary.records.values()] == ["a"]
    assert set(Store(tmp_path / "results").records()) == set(summary.records)


def test_cells_without_data_are_skipped_by_name_and_the_run_ends_with_1(place: Path) -> None:
    suite = light.suite(place, "few", 1, 1, 1)
    suite.write_text(suite.read_text().replace("tests.faults.light:backbone", f"{small.FAKES}:backbone"))
    with suite.open("a") as file:
        file.write('[[datasets]]\nname = "gone"\nsource = "folder"\npath = "nowhere"\n')
    at_work = bench(place, "-m", "harness.cli", "run", "few.toml", "--dataset", "gone")
    _, err = at_work.communicate(timeout=200)
    assert at_work.returncode == 1, err
    assert "data missing, its cells will be skipped: gone: " in err
    assert "skipped: m0 · gone · seed 0: data: " in err
    assert "nowhere" in err
    assert statuses(place) == ["skipped"] * 2


def test_a_disk_that_fills_up_costs_cells_and_ends_with_1(place: Path) -> None:
    """The store on a disk of its own that is full when the first cells are done; with room again all is there."""
    light.suite(place, "few", 2, 1, 2)
    (place / "results").mkdir()
    with mounted(place / "results" / "few", "size=256k") as disk:
        for name in ("cells", "locks"):
            (disk / name).mkdir()
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(1 << 20))
        os.truncate(ballast, ballast.stat().st_size - (40 << 10))
        full = start(place, "few.toml", "--workers", "1")
        _, err = full.communicate(timeout=180)
        assert full.returncode == 1, err
        assert "the disk is full" in err
        assert not list(disk.glob("cells/.tmp-*"))
        ballast.unlink()
        again = start(place, "few.toml")
        _, err = again.communicate(timeout=180)
        assert again.returncode == 0, err
        assert statuses(place) == ["ok"] * 8


def test_a_merge_of_cells_that_differ_ends_with_2_unless_allowed(tmp_path: Path) -> None:
    suite = small.suite()
    (cell,) = plan.cells(suite, small.prints(suite))
    for name, right, bits in (("ours", 7, b"\xfe\x00"), ("theirs", 8, b"\xff\x00")):
        record = small.record_of(cell, correct=right)
        Store(tmp_path / name).write(Outcome(record, {point.budget: bits for point in record.points}))
    merge = ("-m", "harness.cli", "merge", "ours", "theirs")
    asks = bench(tmp_path, *merge)
    _, err = asks.communicate(timeout=180)
    assert asks.returncode == 2
    assert f"conflict: {cell.id} " in err
    assert "nothing was merged" in err
    assert right_of(tmp_path, cell.id) == 7
    told = bench(tmp_path, *merge, "--on-conflict", "theirs")
    told.communicate(timeout=180)
    assert told.returncode == 0
    assert right_of(tmp_path, cell.id) == 8


def right_of(place: Path, cell: str) -> int | None:
    record = Store(place / "ours").record(cell)
    return None if record is None else record.points[0].correct
