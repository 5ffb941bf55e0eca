"""Image folders: ``root/train/<class>/*`` and, where they exist, a validation and a test split beside ``train``.

The root is a folder, or a zip or tar file of one. Whatever cannot be a data set is refused with its place.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from harness.data.archive import unpack_archive
from harness.data.decoding import SUFFIXES
from harness.data.listings import ListedImages, Listing
from harness.data.locations import DataError, data_root, folder_or_archive
from harness.messages import choices, quoted

SPLIT_OF = {  # name of a folder beside the class folders, in any case -> split
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("select", "val", "valid", "validation"), "select"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Files and folders of systems and file managers, in any case; ignored, as names that start with a dot are.
SYSTEM_NAMES = frozenset(
    "thumbs.db|ehthumbs.db|desktop.ini|$recycle.bin|system volume information|"  # Windows
    "__macosx|icon\r|@eadir|#recycle|lost+found".split("|")  # macOS, Synology, Linux
)
SIMILAR = 0.7  # from this ratio on the name of a folder looks like that of a split

Classes = Mapping[str, tuple[Path, ...]]  # class -> files


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """``splits``: "train" and, where they exist, "select" and "test"."""

    root: Path
    name: Path  # of the root in messages: below the folder or archive that the suite names
    splits: Mapping[str, Classes]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(self.splits["train"]))

    def labelled(self, split: str) -> tuple[list[Path], list[int]]:
        """Files of a split and the label of each."""
        pairs = [(file, label) for label, name in enumerate(self.classes) for file in self.splits[split][name]]
        return [file for file, _ in pairs], [label for _, label in pairs]

    def shown(self, path: Path) -> str:
        return quoted(self.name / path.relative_to(self.root))


def list_folder(path: str | None) -> Listing:
    """Splits and files of an image folder."""
    folder = scan_folder(path)
    splits = {}
    for split in folder.splits:
        files, labels = folder.labelled(split)
        splits[split] = ListedImages(files, labels, [folder.shown(file) for file in files])
    return Listing(folder.classes, splits["train"], splits.get("select"), splits.get("test"))


def scan_folder(path: str | None) -> ImageFolder:
    """List the files of all splits; an archive is unpacked. DataError for whatever is no data set."""
    folder = _root(folder_or_archive(path))
    places = _split_folders(folder)
    splits: dict[str, Classes] = {
        split: _classes(folder, places[split]) for split in ("train", "select", "test") if split in places
    }
    for split in ("select", "test"):
        if split in splits:
            splits[split] = _aligned(folder, splits["train"], splits[split], split)
    return ImageFolder(folder.root, folder.name, splits)


def _root(source: Path) -> ImageFolder:
    if not source.is_file():
        return ImageFolder(source.resolve(), source, {})
    root = unpacked = _unpacked(source)
    while len(folders := _folders(root)) == 1 and _split_of(folders[0]) is None:
        root = folders[0]  # archives often hold one folder that holds everything
    return ImageFolder(root, source / root.relative_to(unpacked), {})


def _unpacked(archive: Path) -> Path:
    """Folder of an archive's members, unpacked once below the data root, under the hash of the archive."""
    with archive.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    folder = data_root().resolve() / "unpacked" / name
    return folder if folder.is_dir() else unpack_archive(archive, folder)


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(c for c in folder.iterdir() if c.name[0] != "." and c.name.casefold() not in SYSTEM_NAMES)
    except OSError as error:
        raise DataError(f"{quoted(folder)}: cannot be read: {error.strerror}.") from error


def _folders(folder: Path) -> list[Path]:
    return [child for child in _visible(folder) if child.is_dir()]


def _split_of(folder: Path) -> str | None:
    return SPLIT_OF.get(folder.name.casefold())


def _split_folders(folder: ImageFolder) -> dict[str, Path]:
    """Folder of each split. One that may be meant as a split and has another name is refused, not ignored."""
    name, children = quoted(folder.name), _visible(folder.root)
    splits: dict[str, Path] = {}
    for child in children:
        split = _split_of(child)
        if split in splits:
            first = splits[split].name
            raise DataError(f"{name} has both `{first}` and `{child.name}`: they mean the same split, keep one.")
        if split is not None:
            splits[split] = child
    if "train" not in splits:
        names = ", ".join(quoted(child.name) for child in children[:8]) or "nothing"
        raise DataError(
            f"{name} has no folder `train` (it holds: {names}). Expected {name}/train/<class>/<image files>; put the "
            "class folders into `train`, splits are made from it."
        )
    for child in splits.values():
        if not child.is_dir():
            raise DataError(f"{folder.shown(child)} is not a folder.")
    classes = {child.name for child in _folders(splits["train"])}
    for child in children:
        if child.is_dir() and _split_of(child) is None and _may_be_a_split(child, classes):
            raise DataError(
                f"{folder.shown(child)}: a folder beside `train` that may be a split under another name; "
                f"{choices(child.name, SPLIT_OF)}. Rename it, or move it out."
            )
    return splits


def _may_be_a_split(folder: Path, classes: set[str]) -> bool:
    name = folder.name.casefold()
    words = set(re.split(r"[^a-z]+", name))
    similar = get_close_matches(name, SPLIT_OF, n=1, cutoff=SIMILAR)
    return bool(words & SPLIT_OF.keys() or similar or classes & {child.name for child in _folders(folder)})


def _classes(folder: ImageFolder, split: Path) -> dict[str, tuple[Path, ...]]:
    children = _checked(folder, split)
    loose = [child for child in children if child.is_file() and child.suffix.lower() in SUFFIXES]
    if loose:
        raise DataError(
            f"{folder.shown(loose[0])}: an image beside the class folders (and {len(loose) - 1} more): move it into "
            "the folder of its class, or out."
        )
    classes: dict[str, tuple[Path, ...]] = {}
    for child in children:
        if child.is_dir():
            name = _class_name(folder, child)
            if name in classes:
                raise DataError(
                    f"{folder.shown(child)}: two folders have this name in different Unicode forms: merge them."
                )
            classes[name] = _images(folder, child)
    if not classes:
        raise DataError(
            f"{folder.shown(split)} has no class folders: expected {folder.shown(split)}/<class>/<image files>."
        )
    return classes


def _class_name(folder: ImageFolder, place: Path) -> str:
    """Name in the composed Unicode form; records are UTF-8, while a file system takes any bytes."""
    try:
        place.name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"the class folder {folder.shown(place)} has a name that is not UTF-8: rename it.") from None
    return unicodedata.normalize("NFC", place.name)


def _checked(folder: ImageFolder, place: Path) -> list[Path]:
    children = _visible(place)
    for child in [place, *children]:
        if child.is_symlink() and not child.resolve().is_relative_to(folder.root):
            raise DataError(
                f"{folder.shown(child)} is a link that leaves {quoted(folder.name)}: copy the files instead, links are "
                "not followed."
            )
    return children


def _images(folder: ImageFolder, place: Path) -> tuple[Path, ...]:
    files = _checked(folder, place)
    others = [file for file in files if file.suffix.lower() not in SUFFIXES or not file.is_file()]
    if others:
        raise DataError(
            f"{folder.shown(others[0])} is not an image file (and {len(others) - 1} more in this folder). A class "
            f"folder holds image files only: {' '.join(sorted(SUFFIXES))}."
        )
    if not files:
        raise DataError(f"class {place.name!r} is empty: {folder.shown(place)} holds no image.")
    return tuple(files)


def _aligned(folder: ImageFolder, train: Classes, other: Classes, split: str) -> Classes:
    """``other`` under the class names of ``train``: they may differ in case, if that is unambiguous."""
    if set(other) == set(train):
        return other
    names = {name.casefold(): name for name in train}
    if len(names) == len(train) == len(other) and {name.casefold() for name in other} == set(names):
        return {names[name.casefold()]: files for name, files in other.items()}
    only_train, only_other = (
        ", ".join(map(quoted, sorted(mine.keys() - others.keys())[:5])) or "none"
        for mine, others in ((train, other), (other, train))
    )
    raise DataError(
        f"{quoted(folder.name)}: train has {len(train)} classes and the {split} split {len(other)}, and they are not "
        f"the same. Only in train: {only_train}; only in {split}: {only_other}."
    )
