"""Fault 44: what is committed, changed by one digit, is found and named."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.results import maintenance
from harness.results.checksums import FRAGMENTS, KEPT, NAME, checksum_faults, write_checksums
from harness.results.store import Store

ROOT = Path(__file__).resolve().parents[3]
SUITES = sorted(path.parent.name for path in (ROOT / "results").glob("*/points.csv"))


def flip(path: Path) -> None:
    """One bit of one digit, or of one byte of what is no text."""
    data = bytearray(path.read_bytes())
    at = next((at for at in range(len(data) // 2, len(data)) if chr(data[at]).isdigit()), len(data) // 2)
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("suite", SUITES)
def test_every_committed_file_is_as_it_was_written(suite: str) -> None:
    folder = ROOT / "results" / suite
    assert checksum_faults(folder) == {}
    tracked = subprocess.run(["git", "-C", folder, "ls-files"], capture_output=True, text=True).stdout.split()
    listed = [line.split("  ")[1] for line in (folder / NAME).read_text().splitlines()]
    fragments = {f"{FRAGMENTS}/{path.name}" for path in (folder / FRAGMENTS).iterdir()}
    assert {*listed} == {name for name in KEPT if (folder / name).is_file()} | fragments
    assert {*tracked} <= {*listed, NAME}, "a committed file without a checksum"


@pytest.mark.parametrize(
    "name", ["points.csv", "records.jsonl", "cards.json", "correct.npz", "table.md", "pareto.svg", "tex/digits.tex"]
)
def test_one_digit_is_seen_by_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "quick"
    shutil.copytree(ROOT / "results" / "quick", folder, ignore=shutil.ignore_patterns("cells", "figures"))
    assert maintenance.verify(Store(folder)) == [], "a clone has no cells"
    flip(folder / name)
    (fault,) = maintenance.verify(Store(folder))
    assert str(fault) == f"{folder / name}: was changed after it was written: its checksum is not the one in {NAME}"


def test_what_is_gone_and_what_is_no_list_are_faults(tmp_path: Path) -> None:
    assert checksum_faults(tmp_path) == {}
    (tmp_path / "points.csv").write_text("a")
    (tmp_path / "other.txt").write_text("not kept")
    assert write_checksums(tmp_path).read_text().endswith("  points.csv\n")
    done = subprocess.run(["sha256sum", "--check", NAME], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "points.csv: OK\n")
    (tmp_path / "points.csv").unlink()
    assert checksum_faults(tmp_path) == {"points.csv": f"is missing, {NAME} lists it"}
    for data, why in (
        (b"nonsense\n", "line 1: not of the form"),
        (b"\xff", "cannot be read"),
        (b"a  ../x", "line 1"),
        (b"%s  tex/../x\n" % (b"0" * 64), "line 1"),
    ):
        (tmp_path / NAME).write_bytes(data)
        assert checksum_faults(tmp_path)[NAME].startswith(why)


def test_a_folder_without_cells_and_list_is_no_store(tmp_path: Path) -> None:
    (fault,) = maintenance.verify(Store(tmp_path))
    assert fault.what == f"no store: there is neither a folder cells/ nor a {NAME}"
