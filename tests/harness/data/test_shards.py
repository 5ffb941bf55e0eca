"""WebDataset shards: read in place, with the splits and labels of their members; what is wrong is named."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data import loading, samples
from harness.data.listings import Listing, MissingFilesError, listing_state, open_listing
from harness.data.locations import DataError
from tests.harness.specs import Shown, Spec

USE = "harness.data.shards:webdataset"


def png(split: str, label: int, number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(samples.drawn(split, label, number, 16, 24)).save(out, "png")
    return out.getvalue()


def write_shard(file: Path, members: Mapping[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as shard:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))


def write_set(root: Path, names: Mapping[str, tuple[str, ...]], labels: str = "012") -> None:
    """Shards of 12 samples each, by split."""
    for split, files in names.items():
        for part, name in enumerate(files):
            members = {}
            for number in range(12):
                key = f"./s{number:07}"
                members[f"{key}.png"] = png(split, number % 3, 12 * part + number)
                members |= {f"{key}.cls": labels[number % 3].encode(), f"{key}.json": b"{}"}
            write_shard(root / name, members)


def listed(root: Path, **options: Any) -> Listing:
    return open_listing(USE, options, str(root))


@pytest.mark.parametrize(
    "names",
    [
        {"train": ("train-000000.tar", "train-000001.tar"), "val": ("set-val-0.tar",), "test": ("test.tar",)},
        {"train": ("train/0.tar", "train/1.tar"), "val": ("validation/0.tar",), "test": ("test/0.tar",)},
        {"train": ("0.tar", "1.tar"), "val": ("valid_0.tar",), "test": ("testing-0.tar",)},
    ],
)
def test_splits_are_words_of_names_and_images_are_those_of_the_shards(
    tmp_path: Path, names: dict[str, tuple[str, ...]]
) -> None:
    write_set(tmp_path, names)
    listing = listed(tmp_path)
    assert listing.classes == ("0", "1", "2")
    assert {name: len(split) for name, split in listing.splits.items()} == {"train": 24, "select": 12, "test": 12}
    assert list(listing.train.labels) == [0, 1, 2] * 8
    expected = samples.drawn("train", 1, 12 + 4, 16, 24)
    assert np.array_equal(np.asarray(listing.train.decoded(12 + 4)), expected)
    assert len(listing.files) == 4


@pytest.mark.parametrize("reading", ["memory", "disk"])
def test_a_set_can_be_read_both_ways(tmp_path: Path, reading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path / "kept"))
    write_set(tmp_path / "set", {"train": ("train-0.tar", "train-1.tar"), "test": ("test-0.tar",)})
    spec = Spec("listing", use=USE, options={"folder": "set"}, path=str(tmp_path), reading=reading, workers=2)
    loaded = loading.load_dataset(spec, Shown(16, 3))  # type: ignore[arg-type]
    assert sum(loaded.sizes.values()) == 36
    assert next(loaded.fit.batches(4, seed=0))[0].shape == (4, 3, 16, 16)


def test_classes_have_the_names_of_a_file_or_of_the_labels(tmp_path: Path) -> None:
    write_set(tmp_path / "a", {"train": ("0.tar",)})
    (tmp_path / "a" / "classnames.txt").write_text("ant\nbee\ncat\n")
    assert listed(tmp_path, folder="a").classes == ("ant", "bee", "cat")
    assert len(listed(tmp_path, folder="a").files) == 2
    (tmp_path / "a" / "classnames.txt").write_text("ant\nbee\n")
    with pytest.raises(DataError, match=r"classnames\.txt: has 2 names, and a label is 2"):
        listed(tmp_path, folder="a")
    write_set(tmp_path / "b", {"train": ("0.tar",)}, labels="zya")
    assert listed(tmp_path, folder="b").classes == ("a", "y", "z")
    assert list(listed(tmp_path, folder="b").train.labels)[:3] == [2, 1, 0]


def test_a_change_of_a_shard_is_a_change_of_the_set(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": ("0.tar",)})
    before = listing_state(listed(tmp_path))
    assert listing_state(listed(tmp_path)) == before
    write_set(tmp_path, {"train": ("0.tar",)}, labels="021")
    assert listing_state(listed(tmp_path)) != before


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"7.png": png("train", 0, 0)}, r"0\.tar: sample 7 has no label: member \.cls is missing or empty"),
        ({"7.cls": b"1"}, r"0\.tar: sample 7 has no image"),
        ({"a/7.png": png("train", 0, 0), "b/7.cls": b"1"}, "sample a/7 has no label"),
        ({"7.png": b"not one", "7.cls": b"1"}, r"0\.tar: 7\.png: cannot be decoded: not an image"),
        ({"7.png": b"", "7.cls": b"\xff\xfe"}, "damaged"),
    ],
)
def test_what_is_wrong_with_a_sample_is_named(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    write_shard(tmp_path / "0.tar", members)
    with pytest.raises(DataError, match=message):
        listed(tmp_path).train.decoded(0)


def test_what_is_missing_or_damaged_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(
        MissingFilesError, match=f"missing in {tmp_path}: tar files below birds, such as train-000000.tar"
    ):
        listed(tmp_path, folder="birds")
    write_set(tmp_path, {"test": ("test/0.tar",)})
    with pytest.raises(DataError, match=r"has no \.tar files of a training split"):
        listed(tmp_path)
    (tmp_path / "train.tar").write_bytes(b"no archive" * 99)
    with pytest.raises(DataError, match=r"train\.tar: damaged"):
        listed(tmp_path)
