"""Batches of CIFAR: read without running what the pickle says."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from harness.data.locations import DataError
from harness.data.pickled_arrays import batch_bytes, read_batch

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 12)


@pytest.mark.parametrize("protocol", [3, 4])
def test_python_and_we_write_and_read_the_same(protocol: int, tmp_path: Path) -> None:
    table = {"data": ARRAY, "fine_labels": [3, 300], "fine_label_names": ["a", "ä"]}
    ours = batch_bytes(table)
    theirs = pickle.loads(ours, encoding="latin1")
    for raw in (ours, pickle.dumps(table, protocol)):
        (tmp_path / "batch").write_bytes(raw)
        read = read_batch(tmp_path / "batch")
        for found in (read, theirs):
            assert np.array_equal(found["data"], ARRAY)
            assert (found["fine_labels"], found["fine_label_names"]) == ([3, 300], ["a", "ä"])


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not be printed",)


def test_nothing_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": Harmful()}))
    with pytest.raises(DataError, match="batch: damaged"):
        read_batch(tmp_path / "batch")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("array", [ARRAY.astype(np.int64), np.asfortranarray(ARRAY)], ids=["int64", "by columns"])
def test_other_arrays_are_refused(array: object, tmp_path: Path) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": array}, 3))
    with pytest.raises(DataError, match="not an array of unsigned bytes"):
        read_batch(tmp_path / "batch")


def test_every_cut_is_an_error_or_missing(tmp_path: Path) -> None:
    whole = batch_bytes({"data": ARRAY, "labels": [1, 2]})
    for length in range(len(whole)):
        (tmp_path / "batch").write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_batch(tmp_path / "batch")
    with pytest.raises(FileNotFoundError):
        read_batch(tmp_path / "no")
