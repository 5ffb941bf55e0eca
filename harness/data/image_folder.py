"""A person's own images: ``root/train/<class>/*`` and, where they exist, ``val`` (or ``select``) and ``test``.

The root is a folder, or a zip or tar file of one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from harness.data.archive import unpack
from harness.data.images import LUMA, Images, check_memory, content_hash
from harness.data.locations import DataError, data_root, folder_or_archive
from harness.data.splits import SourceSplits

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
DROSS = frozenset({"Thumbs.db", "desktop.ini"})  # what file managers leave behind

Found = dict[str, list[Path]]  # class -> files


def read_folder(path: str | None, size: int, channels: int) -> SourceSplits:
    root = _root(path)
    train = _scan(root, "train")
    select = _scan_first(root, ("select", "val"))
    test = _scan_first(root, ("test",))
    for name, other in (("select", select), ("test", test)):
        _same_classes(root, train, other, name)
    every = [part for part in (train, select, test) if part is not None]
    check_memory(sum(len(files) for part in every for files in part.values()), size, channels)
    done = [None if part is None else _decoded(part, size, channels) for part in (select, test)]
    return SourceSplits(_decoded(train, size, channels), *done)


def _root(path: str | None) -> Path:
    given = folder_or_archive(path)
    root = _unpacked(given) if given.is_file() else given
    if not (root / "train").is_dir():
        inside = ", ".join(sorted(child.name for child in root.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{root} has no folder `train` (it holds: {inside}). Expected {root}/train/<class>/<image files>; "
            "put the class folders into `train`, splits are made from it."
        )
    return root.resolve()


def _unpacked(archive: Path) -> Path:
    """The folder that an archive holds, unpacked once below the data root, under the hash of the archive."""
    with archive.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    folder = data_root() / "unpacked" / name
    if not folder.is_dir():
        unpack(archive, folder)
    inside = [child for child in folder.iterdir() if not child.name.startswith(".") and child.name not in DROSS]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and inside[0].name != "train" else folder


def _scan_first(root: Path, names: tuple[str, ...]) -> Found | None:
    present = [name for name in names if (root / name).exists()]
    if len(present) > 1:
        raise DataError(f"{root} has both `{present[0]}` and `{present[1]}`: they mean the same split, keep one.")
    return _scan(root, present[0]) if present else None


def _scan(root: Path, split: str) -> Found:
    folders = [child for child in _children(root / split, root) if child.is_dir()]
    if not folders:
        raise DataError(f"{root / split} has no class folders: expected {root / split}/<class>/<image files>.")
    for folder in folders:
        _readable(folder)
    return {folder.name: _files(folder, root) for folder in folders}


def _readable(folder: Path) -> None:
    """Class names go into records, which are UTF-8; a file system takes any bytes."""
    try:
        folder.name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"the class folder {str(folder)!r} has a name that is not UTF-8: rename it.") from None


def _children(folder: Path, root: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.")
    children = [child for child in folder.iterdir() if not child.name.startswith(".") and child.name not in DROSS]
    for child in children:
        if not child.resolve().is_relative_to(root):
            raise DataError(f"{child} is a link that leaves {root}: copy the files instead, links are not followed.")
    return sorted(children)


def _files(folder: Path, root: Path) -> list[Path]:
    files = _children(folder, root)
    strange = [file for file in files if not file.is_file() or file.suffix.lower() not in SUFFIXES]
    if strange:
        raise DataError(
            f"{strange[0]} is not an image file (and {len(strange) - 1} more in this folder). A class folder holds "
            f"image files only: {' '.join(sorted(SUFFIXES))}."
        )
    if not files:
        raise DataError(f'class "{folder.name}" is empty: {folder} holds no image.')
    return files


def _same_classes(root: Path, train: Found, other: Found | None, name: str) -> None:
    if other is None or set(other) == set(train):
        return
    only_train, only_other = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    raise DataError(
        f"{root}: train has {len(train)} classes and the {name} split {len(other)}, and they are not the same. "
        f"Only in train: {', '.join(only_train[:5]) or 'none'}; only in {name}: {', '.join(only_other[:5]) or 'none'}."
    )


def _decoded(found: Found, size: int, channels: int) -> Images:
    pixels, hashes, labels = [], [], []
    for label, name in enumerate(sorted(found)):
        for file in found[name]:
            original = _opened(file)
            hashes.append(content_hash(np.asarray(original)))
            pixels.append(_squared(original, size, channels))
            labels.append(label)
    tensor = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return Images(tensor, torch.tensor(labels), tuple(sorted(found)), tuple(hashes))


def _opened(file: Path) -> Image.Image:
    """The whole file decoded, upright, as L or RGB."""
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("L" if upright.mode in ("1", "L") else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as an image ({error}). Replace it or take it out.") from error


def _squared(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """Shorter side to ``size``, centre cut out: uint8 (size, size, channels)."""
    square = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    array: NDArray[np.uint8] = np.asarray(square)
    if array.ndim == 2:
        return np.repeat(array[:, :, None], channels, axis=2)
    if channels == 1:
        array = (array @ np.array(LUMA)).round().astype(np.uint8)[:, :, None]
    return array
