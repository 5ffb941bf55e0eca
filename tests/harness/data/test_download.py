"""Failed downloads leave a data root as it was; what others put there, and what did come, stays."""

import socket
from contextlib import suppress

import pytest

from harness.data.download import downloading


@pytest.mark.parametrize("there", [True, False])
def test_a_failed_download_leaves_no_empty_folders(tmp_path, there):
    root = tmp_path / "data"
    if there:
        (root / "empty").mkdir(parents=True)
    with suppress(OSError), downloading(root, seconds=3.0):
        assert socket.getdefaulttimeout() == 3.0
        (root / "set" / "raw").mkdir(parents=True)
        raise OSError("no network")
    assert socket.getdefaulttimeout() is None
    assert sorted(tmp_path.rglob("*")) == ([root, root / "empty"] if there else [])


def test_what_came_before_the_failure_stays(tmp_path):
    part = tmp_path / "set" / "raw" / "first.gz"
    with suppress(KeyboardInterrupt), downloading(tmp_path):
        part.parent.mkdir(parents=True)
        (tmp_path / "set" / "other").mkdir()
        part.write_bytes(b"x")
        raise KeyboardInterrupt
    assert part.exists()
    assert not (tmp_path / "set" / "other").exists()


def test_folders_of_a_download_that_worked_stay(tmp_path):
    with downloading(tmp_path):
        (tmp_path / "set").mkdir()
    assert (tmp_path / "set").is_dir()
