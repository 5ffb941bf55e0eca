"""WebDataset shards: tar files whose members of one key are a sample, such as ``0007.jpg`` with ``0007.cls``.

Nothing is unpacked: the place of each image in its shard is looked up once, and images are read from there.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from harness.data.decoding import SUFFIXES, decode_image
from harness.data.image_folder import SPLIT_OF
from harness.data.listings import ListedImages, Listing, MissingFilesError
from harness.data.locations import DataError
from harness.messages import quoted

__all__ = ["webdataset"]

NAMES = "classnames.txt"  # beside the shards: a class in each line
LABEL_BYTES = 4096  # of a member that holds a label


def webdataset(root: Path, folder: str = ".", label: str = "cls") -> Listing:
    """Images in tar files, with splits by the names of files or folders. Options: folder, label (ending of files)."""
    place = root / folder
    shards = files_by_split(place, ".tar")
    if not shards:
        raise MissingFilesError(
            f"WebDataset: missing in {quoted(root)}: tar files below {quoted(folder)}, such as train-000000.tar or "
            "train/0.tar."
        )
    splits = {split: [sample for file in files for sample in _samples(file, label)] for split, files in shards.items()}
    names, labels = _labels(
        place / NAMES, {split: [each.label for each in samples] for split, samples in splits.items()}
    )
    listed = {split: ListedImages(ShardImages(splits[split]), labels[split]) for split in splits}
    files = (*(file for several in shards.values() for file in several), *_existing(place / NAMES))
    return Listing(names, listed["train"], listed.get("select"), listed.get("test"), files)


def files_by_split(place: Path, suffix: str) -> dict[str, list[Path]]:
    """Files below a folder by split, as their names, or those of their folders, have it as a word; others train.

    DataError where no file is of the training split.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(path for path in place.rglob(f"*{suffix}") if path.is_file()):
        parts = reversed(file.relative_to(place).with_suffix("").parts)
        words = (word for part in parts for word in re.split(r"[^a-z]+", part.lower()))
        found.setdefault(next((SPLIT_OF[word] for word in words if word in SPLIT_OF), "train"), []).append(file)
    if found and "train" not in found:
        raise DataError(f"{quoted(place)}: has no {suffix} files of a training split, such as train-000000{suffix}.")
    return found


class ShardImages:
    """Images at their places in shards, opened when they are asked for."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._places = [(sample.shard, sample.image, *sample.place) for sample in samples]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Image.Image:
        shard, name, start, size = self._places[index]
        with shard.open("rb") as opened:
            opened.seek(start)
            return decode_image(BytesIO(opened.read(size)), f"{quoted(shard)}: {quoted(name)}")


@dataclass(slots=True)
class Sample:
    """Content of the members of one key; ``place``: of the image in the shard, first byte and number of bytes."""

    shard: Path
    image: str = ""
    place: tuple[int, int] = (0, 0)
    label: str | None = None


def _samples(shard: Path, label: str) -> Iterator[Sample]:
    """Samples of a shard in its order; other members than image and label are left alone."""
    samples: dict[str, Sample] = {}
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                if not member.isreg() or not key:
                    continue
                sample = samples.setdefault(f"{folder}/{key}", Sample(shard))
                if f".{ending.lower()}" in SUFFIXES:
                    sample.image, sample.place = member.name, (member.offset_data, member.size)
                elif ending == label:
                    content = opened.extractfile(member)
                    sample.label = "" if content is None else content.read(LABEL_BYTES).decode("utf-8").strip()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DataError(f"{quoted(shard)}: damaged ({type(error).__name__}: {error}); get it again.") from error
    for key, sample in samples.items():
        if not sample.image and sample.label is None:
            continue  # about something else
        if not sample.image or not sample.label:
            raise DataError(
                f"{quoted(shard)}: sample {quoted(key.strip('/'))} has no "
                + (f"label: member .{label} is missing or empty" if sample.image else "image")
            )
        yield sample


def _labels(file: Path, texts: dict[str, list[str | None]]) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Names of the classes, and labels by split: numbers into the names of the file, or names themselves."""
    known = [text for split in texts.values() for text in split if text is not None]
    if all(text.isdecimal() for text in known):
        labels = {split: [int(text or 0) for text in values] for split, values in texts.items()}
        least = 1 + max((max(values, default=0) for values in labels.values()), default=0)
        lines = [line for path in _existing(file) for line in path.read_text(encoding="utf-8").splitlines() if line]
        if lines and len(lines) < least:
            raise DataError(f"{quoted(file)}: has {len(lines)} names, and a label is {least - 1}.")
        return tuple(lines or map(str, range(least))), labels
    names = tuple(sorted(set(known)))
    places = {name: number for number, name in enumerate(names)}
    return names, {split: [places[text or ""] for text in values] for split, values in texts.items()}


def _existing(file: Path) -> tuple[Path, ...]:
    return (file,) if file.is_file() else ()
