"""Writing of a data set that a callable makes: whole or not at all, and wrong items are named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data.image_folder import list_folder
from harness.data.listed_images import read_listing
from harness.data.locations import DataError
from harness.picture_writer import makes_pictures, write_pictures
from harness.plugins import PluginError

HERE = "tests.harness.test_picture_writer"


def grey(count: int = 2) -> Iterator[tuple[str, str, Image.Image]]:
    for number in range(count):
        yield "train", "dark", Image.new("L", (4, 4), number)
        yield "train", "light", np.full((4, 4), 250 + number, np.uint8)
    for name in ("dark", "light"):
        yield "test", name, Image.new("L", (4, 4), 9)


def silent(count: int = 2):
    raise SystemExit


def odd(kind: str) -> Iterator[tuple[str, str, Any]]:
    yield "train", "dark", Image.new("L", (4, 4))
    wrong = {
        "pair": ("train", "dark"),
        "split": ("trian", "dark", Image.new("L", (4, 4))),
        "class": ("train", "../up", Image.new("L", (4, 4))),
        "picture": ("train", "dark", "no picture"),
    }
    yield wrong[kind]


def nothing() -> list[tuple[str, str, Image.Image]]:
    return []


def written(folder: Path, name: str, **options: Any) -> int:
    return write_pictures({"use": f"{HERE}:{name}", "options": options, "folder": str(folder)})


def test_pictures_are_read_back_as_they_were_made(tmp_path: Path) -> None:
    assert written(tmp_path / "set", "grey", count=3) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    splits = read_listing(list_folder(str(tmp_path / "set")), 4, 1)
    assert splits.train.classes == ("dark", "light") and splits.test is not None and len(splits.test) == 2
    values = {int(image.max()) for image, label in zip(splits.train.pixels, splits.train.labels, strict=True) if label}
    assert values == {250, 251, 252}


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("silent", {}, PluginError, "does not say that it makes pictures"),
        ("grey", {"cuont": 2}, PluginError, "unknown option; allowed: count; nearest: count"),
        ("grey", {"count": "2"}, PluginError, "options.count: '2'"),
        ("odd", {"kind": "pair"}, DataError, r"yielded \('train', 'dark'\), not \(split, class name, picture\)"),
        ("odd", {"kind": "split"}, DataError, "split 'trian' is unknown; allowed: train, val, test; nearest: train"),
        ("odd", {"kind": "class"}, DataError, "class name '../up': must be"),
        ("odd", {"kind": "picture"}, DataError, "a picture of 'dark' is str"),
        ("nothing", {}, DataError, "yielded no picture"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_folder(
    tmp_path: Path, name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        written(tmp_path / "set", name, **options)
    assert not (tmp_path / "set").exists()


def test_only_an_annotation_says_that_pictures_are_made() -> None:
    assert makes_pictures(grey) and makes_pictures(nothing)
    assert not makes_pictures(silent) and not makes_pictures(written) and not makes_pictures(dict)
