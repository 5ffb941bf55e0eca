"""Listings: what a callable may give, each fault by name, and a state that follows the files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data import listings
from harness.data.listings import ListedImages, Listing, MissingFilesError, describe_state, listing_state, open_listing
from harness.data.locations import DataError
from harness.plugins import PluginError

HERE = "tests.harness.data.test_listings"
ARRAYS = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)


def arrays(root: Path, labels: list[int] | list[list[int]] | None = None) -> Listing:
    return Listing(("a", "b"), ListedImages(ARRAYS, [0, 1] * 4 if labels is None else labels))


def files(root: Path) -> Listing:
    return Listing(("a", "b"), ListedImages(sorted(root.glob("*.png")), [0, 1]))


def says_nothing(root: Path):
    return arrays(root)


def gives_another(root: Path) -> Listing:
    return 3  # type: ignore[return-value]


def without_root() -> Listing:
    return arrays(Path())


def place(root: Path) -> None:
    for index in range(2):
        Image.fromarray(ARRAYS[index]).save(root / f"{index}.png")


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("says_nothing", {}, PluginError, r"does not say that it gives a listing: annotate it .*Listing"),
        ("gives_another", {}, PluginError, "gave int, not a Listing"),
        ("without_root", {}, PluginError, "must take root"),
        ("arrays", {"k": 1}, PluginError, r"options\.k: unknown option"),
        ("arrays", {"root": "x"}, PluginError, r"options\.root: set by the bench itself"),
        ("arrays", {"labels": [0, 1]}, DataError, "train split has 8 images and 2 labels"),
        ("arrays", {"labels": [0, 2] * 4}, DataError, "labels that are not in 0 to 1"),
        ("arrays", {"labels": [[0, 1], [0, 2]] * 4}, DataError, "labels that are not 0 or 1 for each of 2 classes"),
        ("arrays", {"labels": [[0, 1, 0]] * 8}, DataError, "labels that are not 0 or 1 for each of 2 classes"),
        ("arrays", {"labels": [0, -1] * 4}, DataError, "labels that are not in 0 to 1"),
    ],
)
def test_each_fault_is_named(name: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_listing(f"{HERE}:{name}", options, None)


def test_arrays_files_and_pil_images_are_decoded_alike(tmp_path: Path) -> None:
    place(tmp_path)
    by_file = open_listing(f"{HERE}:files", {}, str(tmp_path)).train
    in_memory = ListedImages([Image.fromarray(ARRAYS[0]), ARRAYS[0, ..., :1], ARRAYS[0, ..., 0]], [0, 0, 0])
    assert np.array_equal(np.asarray(by_file.decoded(0)), ARRAYS[0])
    assert np.array_equal(np.asarray(in_memory.decoded(0)), ARRAYS[0])
    assert in_memory.decoded(1).mode == "L"
    assert np.array_equal(np.asarray(in_memory.decoded(1)), np.asarray(in_memory.decoded(2)))
    with pytest.raises(DataError, match="image 0: cannot be read: ndarray"):
        ListedImages([np.zeros((3, 3, 7))], [0]).decoded(0)


def test_the_state_follows_files_and_labels(tmp_path: Path) -> None:
    place(tmp_path)
    request = {"use": f"{HERE}:files", "options": {}, "path": str(tmp_path)}
    first = describe_state(request)
    assert first == describe_state(request) == listing_state(files(tmp_path))
    os.utime(tmp_path / "0.png", ns=(1, 1))
    assert describe_state(request) not in (first, None)
    swapped = Listing(("a", "b"), ListedImages(files(tmp_path).train.images, [1, 0]))
    assert listing_state(swapped) != listing_state(files(tmp_path))
    (tmp_path / "1.png").unlink()
    assert describe_state(request) is None


def test_a_download_is_tried_once_and_only_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def lacking(root: Path) -> Listing:
        if not tried:
            raise MissingFilesError("nothing is there.", lambda: tried.append(1))
        return arrays(root)

    monkeypatch.setattr(listings, "resolve", lambda use: lacking)
    with pytest.raises(MissingFilesError, match=r"^nothing is there\.$"):
        open_listing("any:thing", {}, None, download=False)
    assert len(open_listing("any:thing", {}, None)) == 8 and tried == [1]


def test_names_in_messages(tmp_path: Path) -> None:
    assert ListedImages(ARRAYS, [0] * 8).name(3) == "image 3"
    assert ListedImages([tmp_path / "x.png"], [0]).name(0) == str(tmp_path / "x.png")
    assert ListedImages(ARRAYS[:1], [0], ["the first"]).name(0) == "the first"
