"""Sources of images by name: installed packages, idx files and synthetic sets."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data import locations, synthetic
from harness.data.download import downloading
from harness.data.images import Images, images_from_arrays
from harness.data.locations import DataError
from harness.data.splits import SourceSplits

DIGITS = tuple("0123456789")
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def read_source(source: str, path: str | None, size: int, channels: int) -> SourceSplits:
    """``path``: data root, where it is not the usual one. Synthetic sets are drawn at ``size``."""
    return SOURCES[source](path, size, channels)


def outline_source(source: str, path: str | None) -> SourceSplits | None:
    """All splits with labels but possibly without pixels, fast; None where the source must be downloaded first.

    They divide exactly as after :func:`read_source`.
    """
    if source in synthetic.COUNTS:
        return SourceSplits(synthetic.outline(source))
    if source == "fashion_mnist" and locations.fashion_mnist_folder(locations.data_root(path)) is None:
        return None
    return read_source(source, path, 1, 1)


def _table(file: Path, columns: int) -> NDArray[np.int64]:
    """A gzipped table of whole numbers; ten times faster than numpy.genfromtxt."""
    with gzip.open(file) as stream:
        text = stream.read().decode().replace("\n", ",")
    return np.fromstring(text, sep=",", dtype=np.int64).reshape(-1, columns)


def _digits() -> Images:
    table = _table(locations.packaged_file(*locations.PACKAGED["digits"]), 65)
    pixels = (table[:, :-1] * 255 / 16).round().astype(np.uint8).reshape(-1, 8, 8)
    return images_from_arrays(pixels, table[:, -1], DIGITS)


def _mnist5k() -> Images:
    table = _table(locations.packaged_file(*locations.PACKAGED["mnist5k"]), 785)
    return images_from_arrays(table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1], DIGITS)


def _fashion_mnist(path: str | None, size: int, channels: int) -> SourceSplits:
    root = locations.data_root(path)
    folder = locations.fashion_mnist_folder(root) or _downloaded(root)
    train, test = (_idx_pair(folder, name) for name in ("train", "t10k"))
    return SourceSplits(train=train, test=test)


def _downloaded(root: Path) -> Path:
    try:
        with downloading(root):
            from torchvision.datasets import FashionMNIST

            FashionMNIST(str(root), download=True)
    except Exception as error:  # torchvision raises whatever its mirrors, the network or the disk raise
        raise DataError(
            f"Fashion-MNIST is not on this machine and the download failed ({error}). Either place the files "
            f"{', '.join(f'{name}.gz' for name in locations.FASHION_FILES)} into {root}/FashionMNIST/raw (`path` names "
            f"another root), or on Debian and Ubuntu install the package dataset-fashion-mnist, which puts them into "
            f"{locations.DEBIAN_FASHION}."
        ) from error
    return root / "FashionMNIST" / "raw"


def _idx_pair(folder: Path, split: str) -> Images:
    pixels, labels = (
        _idx(folder, f"{split}-{kind}-ubyte", axes) for kind, axes in (("images-idx3", 3), ("labels-idx1", 1))
    )
    if len(pixels) != len(labels) or labels.max(initial=0) >= len(FASHION):
        raise DataError(f"{folder}: {split} has {len(pixels)} images but {len(labels)} labels, or labels above 9.")
    return images_from_arrays(pixels, labels.astype(np.int64), FASHION)


def _idx(folder: Path, name: str, axes: int) -> NDArray[np.uint8]:
    """One idx file: two zero bytes, type 8 (uint8), number of axes, their lengths (big-endian), then the bytes."""
    file = locations.idx_file(folder, name)
    if file is None:
        raise DataError(f"{folder / name} is missing.")
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        shape = tuple(np.frombuffer(raw, dtype=">u4", count=axes, offset=4).tolist())
        if raw[:4] != bytes((0, 0, 8, axes)):
            raise ValueError("not an idx file of unsigned bytes")
        return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{file} is damaged ({error}): download it again.") from error


SOURCES: dict[str, Callable[[str | None, int, int], SourceSplits]] = {
    "digits": lambda path, size, channels: SourceSplits(_digits()),
    "mnist5k": lambda path, size, channels: SourceSplits(_mnist5k()),
    "fashion_mnist": _fashion_mnist,
    "glyphs": lambda path, size, channels: SourceSplits(synthetic.glyph_images(size)),
    "letters": lambda path, size, channels: SourceSplits(synthetic.letter_images(size)),
    "shapes": lambda path, size, channels: SourceSplits(synthetic.shape_images(size)[0]),
    "textures": lambda path, size, channels: SourceSplits(synthetic.texture_images(size)),
}
