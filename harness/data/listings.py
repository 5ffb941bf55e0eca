"""Listings: data sets whose images are opened one by one, from files, arrays or anything else that has an index.

A suite names a callable ``(root, **options)`` that says by its annotation that it gives a :class:`Listing`; ``root`` is
the data root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.code_digest import stamp
from harness.data.decoding import decode_image, opaque_image
from harness.data.download import downloading
from harness.data.locations import DataError, data_root
from harness.data.masks import MaskFiles
from harness.messages import quoted
from harness.plugins import PluginError, check_options, declared_classes, resolve


class MissingFilesError(DataError):
    """Files of a data set that are not there. ``download``: gets them, where that is possible."""

    def __init__(self, text: str, download: Callable[[], object] | None = None) -> None:
        super().__init__(text)
        self.download = download


class IndexedImages(Protocol):
    """Images of one's own that are opened when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class ListedImages:
    """Images of one split and their labels, numbers into the classes; or, where an image may have several, 0 or 1 for
    each class, an array (images, classes); or, where each pixel has a class, :class:`~harness.data.masks.MaskFiles`.

    ``images[i]`` is the path of an image file, a uint8 array (h, w) or (h, w, 3), or a PIL image: a list of paths, an
    array, or whatever has a length and an index. ``names``: of the images in messages; else paths and numbers.
    """

    images: Sequence[Any] | IndexedImages | NDArray[np.uint8]
    labels: Sequence[int] | NDArray[np.integer[Any]] | MaskFiles
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        if len(self.names):
            return self.names[index]
        item = self.images[index]
        return quoted(item) if isinstance(item, Path) else f"image {index}"

    def decoded(self, index: int) -> Image.Image:
        """Image of mode L or RGB."""
        item = self.images[index]
        if isinstance(item, Path | str):
            return decode_image(Path(item), self.name(index))
        try:
            image = item if isinstance(item, Image.Image) else Image.fromarray(np.squeeze(np.asarray(item)))
            return opaque_image(image)
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{self.name(index)}: cannot be read: {type(item).__name__}: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Official splits of a data set; ``select`` and ``test`` are cut from ``train`` where there are none.

    ``files``: what labels, and images that are no paths, are read from; a change of one of them is a change of the set.
    """

    classes: tuple[str, ...]
    train: ListedImages
    select: ListedImages | None = None
    test: ListedImages | None = None
    files: tuple[Path, ...] = ()

    @property
    def splits(self) -> dict[str, ListedImages]:
        named = {"train": self.train, "select": self.select, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))


def open_listing(use: str, options: Mapping[str, Any], path: str | None, *, download: bool = True) -> Listing:
    """Call what a suite names; ``path``: data root other than the usual one. DataError for missing files, with what to
    place where, after the ``download`` failed or where there is none.
    """
    factory = resolve(use)
    if declared_classes(factory) != (Listing,):
        raise PluginError(
            f"use = {use!r}: does not say that it gives a listing: annotate it to return {Listing.__module__}.Listing"
        )
    check_options(use, factory, options, supplied=("root",))
    root = data_root(path).absolute()
    try:
        made = factory(root=root, **options)
    except MissingFilesError as error:
        if not download or error.download is None:
            raise
        _download(error, root)
        made = factory(root=root, **options)
    return _checked(use, made)


def _download(missing: MissingFilesError, root: Path) -> None:
    if missing.download is None:
        return
    try:
        with downloading(root):
            missing.download()
    except Exception as error:  # torchvision raises whatever its mirrors, the network or the disk raise
        raise DataError(f"{missing} The download failed ({type(error).__name__}: {error}).") from error


def _checked(use: str, made: object) -> Listing:
    if not isinstance(made, Listing):
        raise PluginError(f"use = {use!r}: gave {type(made).__name__}, not a Listing")
    for name, split in made.splits.items():
        labels = np.zeros(len(split), int) if isinstance(split.labels, MaskFiles) else np.asarray(split.labels)
        if len(split.images) != len(labels):
            raise DataError(f"the {name} split has {len(split.images)} images and {len(labels)} labels")
        classes = len(made.classes)
        if labels.ndim == 2:
            if labels.shape[1] != classes or not np.isin(labels, (0, 1)).all():
                raise DataError(f"the {name} split has labels that are not 0 or 1 for each of {classes} classes")
        elif len(labels) and not (labels.dtype.kind in "iu" and 0 <= labels.min() <= labels.max() < classes):
            raise DataError(f"the {name} split has labels that are not in 0 to {classes - 1}")
    missing = [path for path in _paths(made) if not path.is_file()]
    if missing:
        raise MissingFilesError(f"{len(missing)} of {len(made)} images are missing, the first {quoted(missing[0])}.")
    return made


def _paths(listing: Listing) -> Iterator[Path]:
    """All files that a listing is read from."""
    yield from listing.files
    for split in listing.splits.values():
        if isinstance(split.labels, MaskFiles):
            yield from split.labels.paths
        if isinstance(split.images, Sequence):  # not an array of pixels
            yield from (Path(item) for item in split.images if isinstance(item, Path | str))


def listing_state(listing: Listing) -> str:
    """Digest of the state of all files (path, time, size) and of the labels, without reading an image."""
    digest = sha256(repr(listing.classes).encode("utf-8", "surrogatepass"))
    for path in _paths(listing):
        digest.update(f"{path}\0{stamp(path)}\0".encode("utf-8", "surrogatepass"))
    for name, split in listing.splits.items():
        digest.update(f"{name} {len(split)}".encode())
        if not isinstance(split.labels, MaskFiles):  # whose files are among the paths
            digest.update(np.asarray(split.labels, dtype=np.int64).tobytes())
    return digest.hexdigest()


def describe_listing(request: Mapping[str, Any]) -> dict[str, str]:
    """State of a listing, downloaded if need be, and what is in it in words."""
    listing = open_listing(request["use"], request["options"], request["path"])
    sizes = ", ".join(f"{name} {len(split)}" for name, split in listing.splits.items())
    return {"state": listing_state(listing), "summary": f"{len(listing.classes)} classes; {sizes}"}


def describe_state(request: Mapping[str, Any]) -> str | None:
    """State of the listing of a suite's entry, or None where its files are missing: nothing is downloaded."""
    try:
        return listing_state(open_listing(request["use"], request["options"], request["path"], download=False))
    except DataError:
        return None
