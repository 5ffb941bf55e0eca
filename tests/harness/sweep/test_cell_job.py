"""What a cell leaves: read as it is, judged by how its process ended, never believed against arithmetic."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from harness.jobs.job import Ending, JobFolder
from harness.jobs.logs import CAP
from harness.results import cell_files, store
from harness.results.cell_files import Outcome
from harness.sweep.cell_job import ImpossibleOutcome, judge, outcome_of
from tests.harness import small
from tests.harness.small import acts
from tests.harness.sweep.stub_sweeps import cells_of, run, statuses, stubs


@pytest.mark.parametrize(
    ("forge", "status", "reason"),
    [
        ({"correct": 65}, "nan", "budget 0.25: accuracy outside [0, 1]: 65 correct of 64"),
        ({"correct": -1}, "nan", "budget 0.25: accuracy outside [0, 1]: -1 correct of 64"),
        ({"macs": -5}, "failed", "budget 0.25: negative size: -5 MACs, 1 parameters"),
        ({"budget": 0.5}, "failed", "the outcome has points for [0.5, 1.0]"),
    ],
)
def test_numbers_that_cannot_be_are_no_result(tmp_path: Path, forge: dict[str, Any], status: str, reason: str) -> None:
    (bad,), (good,) = acts("bad", forge=forge), acts("good")
    summary = run(stubs(bad, good), tmp_path)
    assert statuses(summary) == {"bad": status, "good": "ok"}
    record = next(record for record in summary.records.values() if record.method == "bad")
    assert record.reason == reason
    assert {point.correct for point in record.points} == {None}


def test_an_outcome_of_another_cell_is_no_result(tmp_path: Path) -> None:
    first, second = cells_of(small.suite(seeds=[0, 1]))
    outcome, folder = Outcome(small.record_of(first)), JobFolder(tmp_path)
    cell_files.save_outcome(outcome, folder.result)
    assert outcome_of(first, folder) == outcome
    with pytest.raises(ImpossibleOutcome, match=f"the outcome is that of cell {first.id}"):
        outcome_of(second, folder)
    assert judge(second, folder, Ending("ok")) == ("failed", f"the outcome is that of cell {first.id}")


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (lambda f: replace(f / "record.json", os.mkfifo), "not a regular file"),
    "device": (lambda f: replace(f / "correct.npz", lambda p: p.symlink_to("/dev/zero")), "Too many levels"),
    "link": (lambda f: replace(f, lambda p: p.symlink_to("/etc")), "Not a directory"),
    "folder": (lambda f: replace(f / "sha256", Path.mkdir), "not a regular file"),
    "size": (lambda f: os.truncate(f / "record.json", 1 << 30), "at most 67108864 are read"),
    "checksum": (lambda f: (f / "record.json").write_text("{}"), "checksum of record.json differs"),
    "deep": (lambda f: put(f, "record.json", b'{"a":' * 100_000), "nested too deeply"),
    "infinite": (lambda f: put(f, "record.json", b'{"schema_version": Infinity}'), "Infinity is not a number"),
    "no record": (lambda f: put(f, "record.json", b"[]"), "no record"),
    "no text": (lambda f: put(f, "log.txt", b"\xff"), "log.txt: 'utf-8' codec can't decode"),
    "bomb": (lambda f: put(f, "correct.npz", bomb(256 << 20)), "unpacks to 268435584 bytes"),
    "claims": (lambda f: put(f, "correct.npz", claiming(10**12)), "uint8 of shape (1000000000000,)"),
    "pickle": (lambda f: put(f, "correct.npz", pickled()), "object of shape"),
    "no archive": (lambda f: put(f, "correct.npz", b"PK"), "File is not a zip file"),
}


@pytest.mark.parametrize("harm", HARM)
def test_files_that_a_cell_leaves_are_read_as_hostile(tmp_path: Path, harm: str) -> None:
    """Regular files of bounded size alone, and whatever they hold is a reason."""
    (cell,) = cells_of(small.suite())
    folder = JobFolder(tmp_path)
    cell_files.save_outcome(Outcome(small.record_of(cell), log="x"), folder.result)
    spoil, reason = HARM[harm]
    spoil(folder.result)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, why = judge(cell, folder, Ending("ok"))
    assert status == "failed"
    assert why.startswith("its outcome cannot be read: ")
    assert reason in why
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024, "KiB"


def replace(path: Path, make: Callable[[Path], object]) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def put(folder: Path, name: str, content: bytes) -> None:
    """With checksums that fit."""
    (folder / name).write_bytes(content)
    names = [path.name for path in folder.iterdir() if path.name != "sha256"]
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "sha256").write_text("".join(lines))


def bomb(size: int) -> bytes:
    archive = io.BytesIO()
    np.savez_compressed(archive, **{"1.0": np.zeros(size, np.uint8)})  # type: ignore[arg-type]
    return archive.getvalue()


def claiming(count: int) -> bytes:
    """An array of a few bytes whose header claims many."""
    archive, array = io.BytesIO(), io.BytesIO()
    npy.write_array_header_1_0(array, {"shape": (count,), "fortran_order": False, "descr": "|u1"})
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("1.0.npy", array.getvalue() + b"xyz")
    return archive.getvalue()


def pickled() -> bytes:
    archive = io.BytesIO()
    np.savez(archive, **{"1.0": np.array([{}], dtype=object)})  # type: ignore[arg-type]
    return archive.getvalue()


def test_two_hundred_megabytes_of_output_are_cut_to_their_end(tmp_path: Path) -> None:
    summary = run(stubs(*acts("loud", act="loud", forge={"macs": -1})), tmp_path)  # failed: its log is kept
    kept = store.Store(tmp_path / "results").read(summary.ran[0])
    assert kept is not None
    assert len(kept.log) == CAP
    assert kept.log.endswith("xthe end\n")
    assert (tmp_path / "runs" / summary.ran[0] / "log.txt").stat().st_size <= 4 * CAP


def test_a_record_says_what_the_cell_took(tmp_path: Path) -> None:
    summary = run(stubs(*acts("a", seconds=0.3)), tmp_path)
    (record,) = summary.records.values()
    assert record.attempts == 1
    assert record.peak_mib is not None
    assert 5 < record.peak_mib < 500
    assert record.disk_mib is not None
    assert 0.004 <= record.disk_mib < 5
