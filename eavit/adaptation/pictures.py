"""Folders of pictures, one subfolder a class, as data loaders with a model's preprocessing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from timm.data import create_transform, get_img_extensions
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
VAL_SHARE = 0.2  # of each class, where there is no folder for validation
CROP_AREA = (0.5, 1.0)  # of random crops in training
NOT_TRANSFORMED = ("classes",)

Sample = tuple[Path, int]


class PicturesError(ValueError):
    """A folder that is no data set; the message names the place."""


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """Pictures of some classes, divided into training and validation."""

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    note: str  # how they were divided


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures read from files when they are asked for. ``mode``: PIL's, L or RGB."""

    def __init__(
        self, samples: Sequence[Sample], classes: Sequence[str], mode: str, transform: Callable[[Any], Any]
    ) -> None:
        self.samples, self.classes, self.mode, self.transform = samples, classes, mode, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        try:
            with Image.open(path) as picture:
                image: Tensor = self.transform(picture.convert(self.mode))
        except (UnidentifiedImageError, OSError) as error:
            raise PicturesError(f"{path}: cannot be read as a picture ({error}); repair or remove it") from error
        return image, label


def read_pictures(root: str | Path) -> PictureFolder:
    """Find ``root/<class>/*`` or ``root/train/<class>/*``, with ``val`` or ``test`` beside ``train`` if there is one.

    Without it, a fifth of each class, by the hash of the files' content, is for validation: equal files stay together.
    """
    root = Path(root)
    if not root.is_dir():
        raise PicturesError(f"{root} is no folder; give one with a subfolder of pictures for each class")
    train, val = (next((root / n for n in names if (root / n).is_dir()), None) for names in (TRAIN_NAMES, VAL_NAMES))
    own = _by_class(train or root)
    classes = tuple(own)
    if len(classes) < 2:
        present = f"{classes[0]!r} alone" if classes else "none"
        raise PicturesError(
            f"{train or root}: must have a subfolder of pictures for each of 2 or more classes, has {present}"
        )
    if train is not None and val is not None:
        other = _by_class(val)
        if set(other) - set(classes):
            raise PicturesError(f"{val}: classes {sorted(set(other) - set(classes))} are not in {train}")
        return PictureFolder(classes, _samples(own, classes), _samples(other, classes), f"validation: {val}")
    pairs = {name: _divided(files, name) for name, files in own.items()}
    return PictureFolder(
        classes,
        _samples({name: pair[0] for name, pair in pairs.items()}, classes),
        _samples({name: pair[1] for name, pair in pairs.items()}, classes),
        f"validation: {VAL_SHARE:.0%} of each class, by the hash of the files (no folder {' or '.join(VAL_NAMES)})",
    )


def _by_class(folder: Path) -> dict[str, list[Path]]:
    known = get_img_extensions(as_set=True)
    files_of = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = sorted(path for path in place.rglob("*") if path.suffix.lower() in known)
        if files:
            files_of[place.name] = files
    return files_of


def _samples(files: Mapping[str, Sequence[Path]], classes: Sequence[str]) -> tuple[Sample, ...]:
    return tuple((path, label) for label, name in enumerate(classes) for path in files.get(name, ()))


def _divided(files: Sequence[Path], name: str) -> tuple[list[Path], list[Path]]:
    """Training and validation files of a class."""
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    distinct = sorted(set(digests.values()))
    if len(distinct) < 2:
        raise PicturesError(f"class {name!r} has {len(distinct)} distinct picture; at least 2 are needed")
    count = min(len(distinct) - 1, max(1, round(VAL_SHARE * len(distinct))))
    held = set(distinct[:count])
    return [p for p in files if digests[p] not in held], [p for p in files if digests[p] in held]


def picture_loader(
    samples: Sequence[Sample],
    classes: Sequence[str],
    data: Mapping[str, Any],
    batch: int,
    *,
    training: bool = False,
    flip: bool = False,
    workers: int = 0,
) -> DataLoader[tuple[Tensor, int]]:
    """Loader with a model's preprocessing; in training shuffled, with random crops and, if asked, horizontal flips."""
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k not in NOT_TRANSFORMED}
    own = {"is_training": True, "hflip": 0.5 if flip else 0.0, "color_jitter": 0.0, "scale": CROP_AREA}
    transform = create_transform(**config, **(own if training else {}))
    mode = "L" if config["input_size"][0] == 1 else "RGB"
    pictures = Pictures(samples, classes, mode, transform)
    return DataLoader(pictures, batch, shuffle=training, num_workers=workers)


def digest_of_samples(samples: Sequence[Sample], classes: Sequence[str]) -> str:
    """SHA-256 of pictures and their classes, wherever their files lie and whatever their names."""
    lines = sorted(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {classes[label]}" for path, label in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def describe_samples(samples: Sequence[Sample]) -> str:
    """Smallest and largest class, for a message."""
    counts = Counter(label for _, label in samples).values()
    return f"{len(samples)} pictures, {min(counts)} to {max(counts)} a class"
