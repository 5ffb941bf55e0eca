"""Folders of images: any mode, each fault named by its place."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import image_folder, loading
from harness.data.locations import DataError
from tests.harness.specs import Shown, Spec


def picture(path: Path, level: int, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(level).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


def make(root: Path, split: str = "train", classes: tuple[str, ...] = ("cat", "dog"), count: int = 8, seed: int = 0):
    for c, name in enumerate(classes):
        for i in range(count):
            picture(root / split / name / f"{i}.png", seed + 100 * c + i)
    return root


def load_folder(root: Path, **more):
    return loading.load_dataset(Spec("folder", path=str(root), **more), Shown(8, 3))


def test_folder_with_train_only(tmp_path):
    loaded = load_folder(make(tmp_path))
    assert loaded.classes == ("cat", "dog")
    assert loaded.sizes == {"fit": 8, "select_a": 2, "select_b": 2, "test": 4} or sum(loaded.sizes.values()) == 16
    assert next(loaded.fit.batches(2))[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize("validation", ["val", "select"])
def test_folder_with_its_own_splits(tmp_path, validation):
    make(make(make(tmp_path), validation, count=4, seed=1000), "test", count=3, seed=2000)
    loaded = load_folder(tmp_path)
    assert loaded.sizes == {"fit": 16, "select_a": 4, "select_b": 4, "test": 6}
    assert loaded.dropped == 0


def test_renaming_files_changes_no_split(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b")
    for file in sorted((tmp_path / "b" / "train" / "cat").iterdir()):
        file.rename(file.with_name(f"{99 - int(file.stem)}.png"))
    assert load_folder(tmp_path / "a").fingerprint == load_folder(tmp_path / "b").fingerprint


def test_every_mode_and_orientation_is_read(tmp_path):
    make(tmp_path)
    for i, mode in enumerate(("L", "P", "1", "RGBA", "CMYK")):
        picture(tmp_path / "train" / "cat" / f"m{i}.{'tif' if mode == 'CMYK' else 'png'}", 500 + i, mode)
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(tmp_path / "train" / "cat" / "deep.png")
    found = image_folder.read_folder(str(tmp_path), 8, 3).train
    assert len(found) == 22
    deep = image_folder._squared(image_folder._opened(tmp_path / "train" / "cat" / "deep.png"), 8, 1)
    assert set(deep.flatten().tolist()) == {40_000 >> 8}
    grey = loading.load_dataset(Spec("folder", path=str(tmp_path)), Shown(8, 1))
    assert next(grey.fit.batches(1))[0].shape == (1, 1, 8, 8)


def test_folder_errors_name_the_place(tmp_path):
    with pytest.raises(DataError, match="needs the key `path`"):
        loading.load_dataset(Spec("folder"), Shown())
    with pytest.raises(DataError, match="there is no such folder"):
        load_folder(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"has no folder `train` \(it holds: nothing\)"):
        load_folder(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        load_folder(tmp_path)
    (make(tmp_path) / "train" / "bird").mkdir()
    with pytest.raises(DataError, match='class "bird" is empty'):
        load_folder(tmp_path)


def test_one_image_in_a_class(tmp_path):
    picture(make(tmp_path) / "train" / "bird" / "only.png", 7)
    with pytest.raises(DataError, match='class "bird" has 1 distinct'):
        load_folder(tmp_path)


def test_class_names_must_agree_between_splits(tmp_path):
    make(make(tmp_path), "test", ("cat", "dgo"), 2, 900)
    with pytest.raises(DataError, match="Only in train: dog; only in test: dgo"):
        load_folder(tmp_path)


def test_class_counts_must_agree_between_splits(tmp_path):
    make(make(tmp_path), "val", ("cat",), 2, 900)
    with pytest.raises(DataError, match="train has 2 classes and the select split 1"):
        load_folder(tmp_path)


def test_two_names_for_one_split(tmp_path):
    make(make(make(tmp_path), "val", count=2, seed=900), "select", count=2, seed=950)
    with pytest.raises(DataError, match="both `select` and `val`"):
        load_folder(tmp_path)


@pytest.mark.parametrize("keep", [0, 30, 200])
def test_corrupt_images_are_named(tmp_path, keep):
    bad = make(tmp_path) / "train" / "dog" / "3.png"
    bad.write_bytes(bad.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"dog/3\.png cannot be read as an image"):
        load_folder(tmp_path)


def test_class_names_that_no_record_can_hold_are_refused(tmp_path):
    os.mkdir(os.fsencode(make(tmp_path) / "train") + b"/caf\xe9")  # noqa: PTH102  # a Path takes no bytes
    with pytest.raises(DataError, match=r"caf.udce9' has a name that is not UTF-8"):
        load_folder(tmp_path)


def test_a_path_that_is_a_file_but_no_archive(tmp_path):
    (tmp_path / "flowers.rar").write_bytes(b"Rar!" * 200)
    with pytest.raises(DataError, match=r"flowers\.rar is no supported archive; allowed: zip, tar"):
        load_folder(tmp_path / "flowers.rar")


def test_files_that_are_no_images(tmp_path):
    (make(tmp_path) / "train" / "cat" / ".DS_Store").write_text("x")
    load_folder(tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt is not an image file"):
        load_folder(tmp_path)


def test_links_that_leave_the_folder_are_refused(tmp_path):
    picture(tmp_path / "outside.png", 1)
    root = make(tmp_path / "root")
    link = root / "train" / "cat" / "link.png"
    link.symlink_to(tmp_path / "outside.png")
    with pytest.raises(DataError, match=r"link\.png is a link that leaves"):
        load_folder(root)
    link.unlink()
    (root / "train" / "bird").symlink_to(tmp_path)
    with pytest.raises(DataError, match="bird is a link that leaves"):
        load_folder(root)
    (root / "train" / "bird").unlink()
    link.symlink_to(root / "train" / "dog" / "0.png")
    load_folder(root)
