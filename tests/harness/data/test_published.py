"""Published sets, each on files in its own format: read as torchvision reads them, or missing by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from harness.data import loading, published, samples
from harness.data.listings import Listing, MissingFilesError, open_listing
from harness.data.locations import DataError
from tests.harness.specs import Shown, Spec

TORCHVISION: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "cifar10": ("CIFAR10", {"train": {"train": True}, "test": {"train": False}}),
    "cifar100": ("CIFAR100", {"train": {"train": True}, "test": {"train": False}}),
    "svhn": ("SVHN", {"train": {"split": "train"}, "test": {"split": "test"}}),
    "flowers102": (
        "Flowers102",
        {s: {"split": v} for s, v in (("train", "train"), ("select", "val"), ("test", "test"))},
    ),
    "food101": ("Food101", {"train": {"split": "train"}, "test": {"split": "test"}}),
    "fgvc_aircraft": (
        "FGVCAircraft",
        {s: {"split": v} for s, v in (("train", "train"), ("select", "val"), ("test", "test"))},
    ),
    "stanford_cars": ("StanfordCars", {"train": {"split": "train"}, "test": {"split": "test"}}),
    "dtd": ("DTD", {s: {"split": v} for s, v in (("train", "train"), ("select", "val"), ("test", "test"))}),
    "oxford_iiit_pets": ("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "eurosat": ("EuroSAT", {"train": {}}),
}


OPTIONS: dict[str, dict[str, Any]] = {"medmnist": {"set": "pathmnist"}, "vtab1k": {"task": "cifar"}}
BY_HAND = ("cityscapes_masks", "stanford_cars", "vtab1k")  # not downloaded


def use(name: str) -> str:
    return f"harness.data.published:{name}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of all sets in one data root."""
    folder = tmp_path_factory.mktemp("root")
    for name in samples.WRITERS:
        samples.write_sample(name, folder, classes=3, each=6, size=24)
    return folder


def listed(name: str, root: Path) -> Listing:
    return open_listing(use(name), OPTIONS.get(name, {}), str(root))


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_images_labels_and_splits_are_those_of_torchvision(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cifar", "svhn", "flowers102"):  # a sample has not the checksums of the real files
        monkeypatch.setattr(getattr(torchvision.datasets, module), "check_integrity", lambda *given: True)
    title, splits = TORCHVISION[name]
    ours = listed(name, root)
    assert ours.splits.keys() == splits.keys()
    for split, options in splits.items():
        theirs = getattr(torchvision.datasets, title)(str(root), **options)
        assert len(theirs) == len(ours.splits[split])
        part = ours.splits[split]
        for index, (image, label) in enumerate(theirs):
            assert np.array_equal(np.asarray(part.decoded(index)), np.asarray(image.convert("RGB")))
            assert part.labels[index] == label
        if hasattr(theirs, "classes") and name not in ("flowers102", "oxford_iiit_pets"):
            assert list(ours.classes) == list(theirs.classes)


def test_medical_sets_are_read_from_their_archive(root: Path) -> None:
    listing = listed("medmnist", root)
    assert listing.classes == ("0", "1", "2") and {n: len(s) for n, s in listing.splits.items()} == dict.fromkeys(
        ("train", "select", "test"), 18
    )
    with np.load(root / "pathmnist.npz") as table:
        assert np.array_equal(np.asarray(listing.select.decoded(7)), table["val_images"][7])  # type: ignore[union-attr]
    with pytest.raises(MissingFilesError, match=r"bloodmnist_64\.npz"):
        open_listing(use("medmnist"), {"set": "bloodmnist", "size": 64}, str(root), download=False)
    with pytest.raises(Exception, match=r"options\.set: 'chestmnists'"):
        open_listing(use("medmnist"), {"set": "chestmnists"}, str(root))


def test_chestmnist_has_several_labels_an_image(tmp_path: Path) -> None:
    samples.write_sample("medmnist", tmp_path, classes=4, each=12, options={"set": "chestmnist"})
    listing = open_listing(use("medmnist"), {"set": "chestmnist"}, str(tmp_path))
    with np.load(tmp_path / "chestmnist.npz") as table:
        labels = table["train_labels"]
        assert labels.shape == (48, 4) and {0, 1, 2} <= set(labels.sum(1).tolist())
        assert np.array_equal(np.asarray(listing.train.labels), labels)
    assert listing.classes == ("0", "1", "2", "3")
    spec = Spec("listing", use=use("medmnist"), options={"set": "chestmnist"}, path=str(tmp_path))
    loaded = loading.load_dataset(spec, Shown(16, 3))  # type: ignore[arg-type]
    images, several = next(loaded.fit.batches(8))
    assert (images.shape, several.shape, several.dtype) == ((8, 3, 16, 16), (8, 4), torch.float32)
    loaded.check_task("chestmnist", "multi_label")
    with pytest.raises(DataError, match="chestmnist: its labels are those of task = 'multi_label'.*'classification'"):
        loaded.check_task("chestmnist", "classification")


def test_the_lists_of_vtab_are_read_as_they_are(tmp_path: Path) -> None:
    samples.write_sample("vtab1k", tmp_path, classes=2, each=5, size=12, options={"task": "dtd"})
    folder = tmp_path / "vtab-1k" / "dtd"
    cut, official = (
        open_listing(use("vtab1k"), {"task": "dtd", "select": select}, str(tmp_path)) for select in ("cut", "val200")
    )
    assert cut.classes == official.classes == ("0", "1")
    assert {name: len(split) for name, split in cut.splits.items()} == {"train": 20, "test": 10}
    assert {name: len(split) for name, split in official.splits.items()} == dict.fromkeys(
        ("train", "select", "test"), 10
    )
    lines = (folder / "train800val200.txt").read_text().splitlines()
    pairs = zip(cut.train.images, cut.train.labels, strict=True)
    assert [f"{Path(image).relative_to(folder)} {label}" for image, label in pairs] == lines
    assert cut.train.images[10:] == official.select.images  # type: ignore[union-attr]
    with pytest.raises(Exception, match=r"options\.task: 'cifr'"):
        open_listing(use("vtab1k"), {"task": "cifr"}, str(tmp_path))
    (folder / "test.txt").write_text("images/test/0.jpg\n")
    with pytest.raises(DataError, match=r"test\.txt: damaged .*each line holds a path and a number"):
        open_listing(use("vtab1k"), {"task": "dtd"}, str(tmp_path))


def test_every_set_can_be_divided_and_gives_batches(root: Path) -> None:
    for name in samples.WRITERS:
        spec = Spec("listing", use=use(name), options=OPTIONS.get(name, {}), path=str(root))
        loaded = loading.load_dataset(spec, Shown(16, 3))  # type: ignore[arg-type]
        official = sum(len(split) for split in listed(name, root).splits.values())
        assert sum(loaded.sizes.values()) + loaded.dropped == official, name
        assert next(loaded.fit.batches(4))[0].shape == (4, 3, 16, 16)


def missing_of(name: str, root: Path) -> str:
    with pytest.raises(MissingFilesError) as caught:
        open_listing(use(name), OPTIONS.get(name, {}), str(root), download=False)
    assert (caught.value.download is None) == (name in BY_HAND)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(samples.WRITERS))
def test_what_is_missing_is_named_with_its_place(name: str, tmp_path: Path) -> None:
    assert str(tmp_path) in missing_of(name, tmp_path)


def test_one_missing_file_is_named(tmp_path: Path) -> None:
    samples.write_sample("stanford_cars", tmp_path, classes=2, each=2, size=12)
    gone = tmp_path / "stanford_cars" / "cars_test_annos_withlabels.mat"
    gone.unlink()
    assert missing_of("stanford_cars", tmp_path) == (
        f"Stanford Cars: missing in {tmp_path}/stanford_cars: cars_test_annos_withlabels.mat. "
        "It is not downloaded: get it from a copy."
    )


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    samples.write_sample("dtd", tmp_path, classes=2, each=2, size=12)
    gone = next(iter(sorted((tmp_path / "dtd" / "dtd" / "images").rglob("*.jpg"))))
    gone.unlink()
    with pytest.raises(MissingFilesError, match=rf"1 of 12 images are missing, the first {gone}"):
        open_listing(use("dtd"), {}, str(tmp_path))


def test_a_download_that_works_is_used_and_one_that_fails_says_what_to_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def downloads(root: str, download: bool) -> None:
        asked.append(root)
        samples.write_sample("eurosat", Path(root), classes=2, each=3, size=12)

    def fails(root: str, download: bool, **options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "EuroSAT", downloads)
    monkeypatch.setattr(torchvision.datasets, "SVHN", fails)
    assert len(open_listing(use("eurosat"), {}, str(tmp_path))) == 6
    assert asked == [str(tmp_path)]
    with pytest.raises(DataError, match=r"missing in .*train_32x32\.mat.*failed \(OSError: no route to host\)"):
        open_listing(use("svhn"), {}, str(tmp_path))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar100", "cifar-100-python/train"),
        ("svhn", "train_32x32.mat"),
        ("flowers102", "flowers-102/setid.mat"),
        ("medmnist", "pathmnist.npz"),
    ],
)
def test_damaged_files_are_named(name: str, file: str, tmp_path: Path) -> None:
    samples.write_sample(name, tmp_path, classes=2, each=2, size=12)
    whole = (tmp_path / file).read_bytes()
    for damaged in _damages(whole):
        (tmp_path / file).write_bytes(damaged)
        with pytest.raises(DataError, match=Path(file).name):
            open_listing(use(name), OPTIONS.get(name, {}), str(tmp_path))


def _damages(whole: bytes) -> Iterator[bytes]:
    return itertools.chain((b"", b"hello"), (whole[: len(whole) // 2],))


def test_options_choose_a_partition_and_a_level(root: Path) -> None:
    first, third = (open_listing(use("dtd"), {"partition": n}, str(root)) for n in (1, 3))
    assert first.files[0].name == "train1.txt" and third.files[0].name == "train3.txt"
    families = open_listing(use("fgvc_aircraft"), {"level": "family"}, str(root))
    assert families.files[0].name == "families.txt"
    assert published.dtd(root).classes == first.classes
