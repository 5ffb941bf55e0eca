"""Folders of images: any mode, each fault named by its place."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import image_folder, loading
from harness.data.listed_images import read_listing
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


def test_every_mode_is_read(tmp_path):
    make(tmp_path)
    for i, mode in enumerate(("L", "P", "1", "RGBA", "CMYK")):
        picture(tmp_path / "train" / "cat" / f"m{i}.{'tif' if mode == 'CMYK' else 'png'}", 500 + i, mode)
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(tmp_path / "train" / "cat" / "deep.png")
    for channels in (1, 3):
        found = read_listing(image_folder.list_folder(str(tmp_path)), 8, channels).train
        assert found.pixels.shape == (22, channels, 8, 8)
        deep = sorted((tmp_path / "train" / "cat").iterdir()).index(tmp_path / "train" / "cat" / "deep.png")
        assert set(found.pixels[deep].flatten().tolist()) == {40_000 >> 8}


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
    with pytest.raises(DataError, match="class 'bird' is empty"):
        load_folder(tmp_path)


def test_one_image_in_a_class(tmp_path):
    picture(make(tmp_path) / "train" / "bird" / "only.png", 7)
    with pytest.raises(DataError, match="1 class.es. have fewer than 2 images to train on, too few: bird"):
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
    with pytest.raises(DataError, match=r"dog/3\.png: cannot be decoded"):
        load_folder(tmp_path)


def test_class_names_that_no_record_can_hold_are_refused(tmp_path):
    os.mkdir(os.fsencode(make(tmp_path) / "train") + b"/caf\xe9")  # noqa: PTH102  # a Path takes no bytes
    with pytest.raises(DataError, match=r"caf.udce9' has a name that is not UTF-8"):
        load_folder(tmp_path)


def test_a_path_that_is_a_file_but_no_archive(tmp_path):
    (tmp_path / "flowers.rar").write_bytes(b"Rar!" * 200)
    with pytest.raises(DataError, match=r"flowers\.rar: no supported archive; allowed: zip, tar"):
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


# --- names of splits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "select", "test"),
    [
        ("train", "validation", "Test"),
        ("Train", "valid", "testing"),
        ("TRAINING", "Val", "TESTING"),
        ("training", "select", "test"),
    ],
)
def test_splits_are_known_by_their_usual_names_in_any_case(tmp_path, train, select, test):
    make(make(make(tmp_path, train), select, count=4, seed=1000), test, count=3, seed=2000)
    assert load_folder(tmp_path).sizes == {"fit": 16, "select_a": 4, "select_b": 4, "test": 6}


@pytest.mark.parametrize(("one", "other"), [("test", "Test"), ("val", "validation"), ("train", "training")])
def test_two_folders_of_one_split_are_both_named(tmp_path, one, other):
    make(make(make(tmp_path), one, count=2, seed=900), other, count=2, seed=950)
    with pytest.raises(DataError, match=f"has both `{min(one, other)}` and `{max(one, other)}`: they mean the same"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("tets", "test"),
        ("test_set", "test"),
        ("Vali", "val"),
        ("val2017", "val"),
        ("trainval", "train"),
        ("tests", "test"),
    ],
)
def test_a_folder_named_almost_like_a_split_is_refused(tmp_path, name, nearest):
    (make(tmp_path) / name).mkdir()
    with pytest.raises(DataError, match=rf"/{name}: a folder beside `train`.*allowed: train, .*nearest: {nearest}"):
        load_folder(tmp_path)


def test_a_folder_with_the_classes_of_train_is_refused_whatever_its_name(tmp_path):
    make(make(tmp_path), "holdout", ("dog",), 2, 900)
    with pytest.raises(DataError, match=r"holdout: a folder beside `train` that may be a split under another name"):
        load_folder(tmp_path)


def test_other_things_beside_the_splits_are_ignored(tmp_path):
    picture(make(tmp_path) / "annotations" / "1.png", 1)
    picture(tmp_path / "masks" / "sky" / "1.png", 2)
    picture(tmp_path / "cover.png", 3)
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "train" / "labels.csv").write_text("x")
    assert load_folder(tmp_path).sizes["fit"] == 8


@pytest.mark.parametrize("split", ["train", "Test"])
def test_images_beside_the_class_folders_are_named(tmp_path, split):
    make(make(tmp_path), "Test", count=2, seed=900)
    picture(tmp_path / split / "loose.PNG", 7)
    with pytest.raises(DataError, match=rf"{split}/loose\.PNG: an image beside the class folders \(and 0 more\)"):
        load_folder(tmp_path)


def test_a_file_named_like_a_split_is_no_split(tmp_path):
    (make(tmp_path) / "test").write_text("1.png")
    with pytest.raises(DataError, match="test is not a folder"):
        load_folder(tmp_path)


# --- what systems leave behind, and Unicode ----------------------------------------------------------------------

LEFTOVERS = (
    "@eaDir",
    "@EADIR",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
    "__MACOSX",
    ".Spotlight-V100",
)


def test_what_systems_leave_behind_is_ignored_everywhere(tmp_path):
    make(tmp_path)
    before = load_folder(tmp_path).fingerprint
    for place in (tmp_path, tmp_path / "train", tmp_path / "train" / "cat"):
        for name in LEFTOVERS:
            (place / name).mkdir()
            (place / name / "x.png").write_text("x")
        for name in ("thumbs.db", "Thumbs.db", "Desktop.ini", "DESKTOP.INI", ".DS_Store", "._1.png", "Icon\r"):
            (place / name).write_text("x")
    assert load_folder(tmp_path).fingerprint == before


def test_class_names_are_one_in_both_unicode_forms(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    make(make(tmp_path, classes=(decomposed, "b")), "test", (composed, "b"), 3, 900)
    assert load_folder(tmp_path).classes == ("b", composed)
    make(tmp_path, classes=(composed,), count=2)
    with pytest.raises(DataError, match="two folders have this name in different Unicode forms"):
        load_folder(tmp_path)


def test_class_names_may_differ_in_case_between_splits_if_that_is_unambiguous(tmp_path):
    make(make(tmp_path / "a", classes=("Cat", "dog")), "test", ("cat", "DOG"), 3, 900)
    loaded = load_folder(tmp_path / "a")
    assert (loaded.classes, loaded.sizes["test"]) == (("Cat", "dog"), 6)
    make(make(tmp_path / "b", classes=("a", "A")), "test", ("a", "A"), 3, 900)
    assert load_folder(tmp_path / "b").classes == ("A", "a")
    make(make(tmp_path / "c", classes=("a", "A")), "test", ("a", "B"), 3, 900)
    with pytest.raises(DataError, match="Only in train: A; only in test: B"):
        load_folder(tmp_path / "c")


@pytest.mark.parametrize("name", ["\x1b[31mred\x1b[0m.png", "two\nlines.png", "\u202egnp.png"])
def test_names_with_control_characters_are_quoted(tmp_path, name):
    make(tmp_path)
    (tmp_path / "train" / "cat" / name).write_bytes(b"no image")
    (tmp_path / "train" / "cat" / f"{name}.txt").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            load_folder(tmp_path)
        assert str(caught.value).isprintable()
        (tmp_path / "train" / "cat" / f"{name}.txt").unlink(missing_ok=True)
    assert "cannot be decoded" in str(caught.value)


# --- contents ----------------------------------------------------------------------------------------------------


def test_an_image_under_two_classes_is_reported_with_its_names_and_share(tmp_path):
    make(make(tmp_path), "test", count=4, seed=2000)
    for place in ("train/dog/again.png", "test/dog/again.png"):
        (tmp_path / place).write_bytes((tmp_path / "train/cat/3.png").read_bytes())
    (note,) = load_folder(tmp_path).notes
    assert note.startswith("3 of 26 images (11.5%) occur under more than one class: ")
    assert note.endswith("/train/cat/3.png and " + str(tmp_path / "train/dog/again.png"))
    (tmp_path / "train/dog/again.png").unlink()
    (tmp_path / "test/dog/again.png").unlink()
    assert load_folder(tmp_path).notes == ()


def refused_by_both(root: Path, match: str, **more) -> None:
    for use in (loading.load_dataset, loading.check_dataset):
        with pytest.raises(DataError, match=match):
            use(Spec("folder", path=str(root), **more), Shown(8, 3))


def test_what_loading_refuses_a_check_refuses_without_decoding(tmp_path):
    refused_by_both(make(tmp_path / "a", classes=("cat",)), r"1 class.* too few: a data set needs at least 2")
    ones = make(make(make(tmp_path / "b", count=1), "val", count=2, seed=900), "test", count=2, seed=950)
    refused_by_both(ones, r"2 class.es. have fewer than 2 images to train on, too few: cat, dog")
    refused_by_both(make(tmp_path / "c", count=3), "class 'cat' has 3 distinct image")
    refused_by_both(make(tmp_path / "d"), "select = 20 is more than the", select=20)
    refused_by_both(make(make(tmp_path / "e"), "val", count=1, seed=900), "select_[ab] split has no image of")
    make(tmp_path / "f")
    for use in (loading.load_dataset, loading.check_dataset):
        with pytest.raises(DataError, match="GiB of memory"):
            use(Spec("folder", path=str(tmp_path / "f")), Shown(9000, 3))


@pytest.mark.parametrize("more", [{}, {"fit": 5, "select": 6, "test": 3}])
def test_a_check_gives_the_sizes_of_the_splits(tmp_path, more):
    spec = Spec("folder", path=str(make(tmp_path, classes=("a", "b", "c"), count=9)), **more)
    assert loading.check_dataset(spec, Shown(8, 3)) == loading.load_dataset(spec, Shown(8, 3)).sizes
