"""Tiny samples of data sets in the layout of the real files: for tests, and for trying a suite.

The images are drawn: each class has a colour and the direction of its stripes, so that a small model learns something.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.pickled_arrays import batch_bytes
from harness.messages import choices

SPLITS = ("train", "val", "test")
CITYSCAPES = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)  # values in its files of the classes that count
Pixels = NDArray[np.uint8]


def write_sample(
    name: str, root: Path, classes: int = 3, each: int = 12, size: int = 64, options: Mapping[str, Any] = {}
) -> None:
    """Write a sample of the set that a function of :mod:`harness.data.published` reads, below the data root ``root``;
    of ``fashion_mnist``; or of a ``folder``, which is ``root``.

    ``each``: images of a class in every official split. ``size``: height of photographs in pixels, a third less than
    their width. ``options``: those of a suite's entry; they name the set of MedMNIST, by default pathmnist, and the
    task of VTAB-1k, by default cifar. The same arguments give the same files. SVHN and Fashion-MNIST always have their
    10 classes.
    """
    known = {**WRITERS, **OTHER_WRITERS}
    if name not in known:
        raise ValueError(f"{name!r}: no such sample; {choices(name, known)}")
    if name == "medmnist":
        _medmnist(root, classes, each, **options)
    elif name == "vtab1k":
        _vtab1k(root, classes, each, size, options.get("task", "cifar"))
    else:
        known[name](root, classes, each, size)


def drawn(split: str, label: int, number: int, height: int, width: int) -> Pixels:
    """Stripes in the colour and direction of a class, at a phase of their own, and noise: uint8 (height, width, 3)."""
    rng = np.random.default_rng([SPLITS.index(split), label, number])
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    angle = np.pi * (label * 0.382 % 1)
    wave = np.sin(2 * np.pi * (4 * (rows * np.sin(angle) + columns * np.cos(angle)) + rng.random()))
    colour = np.random.default_rng(label).uniform(0.2, 1.0, 3)
    noise = rng.normal(0, 12, (height, width, 3))
    pixels: Pixels = (127 + 90 * wave[..., None] * colour + noise).clip(0, 255).astype(np.uint8)
    return pixels


def _cells(classes: int, each: int) -> Iterator[tuple[int, int]]:
    return ((label, number) for label in range(classes) for number in range(each))


def _photographs(folder: Path, size: int, named: Mapping[str, tuple[str, int, int]]) -> None:
    """JPEG files, each by its name below ``folder``: split, class, number."""
    for name, place in named.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn(*place, size, size * 3 // 2)).save(file, quality=90)


def _write(file: Path, content: str | bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def _matlab(file: Path, **variables: Any) -> None:
    from scipy.io import savemat

    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(str(file), variables)


def _small(split: str, classes: int, each: int) -> tuple[Pixels, list[int]]:
    places = list(_cells(classes, each))
    return np.stack([drawn(split, *place, 32, 32) for place in places]), [label for label, _ in places]


# --- one for each set -----------------------------------------------------------------------------------------------


def _cifar(
    base: str, train: tuple[str, ...], test: str, meta: str, prefix: str
) -> Callable[[Path, int, int, int], None]:
    def write(root: Path, classes: int, each: int, size: int) -> None:
        for split, names in (("train", train), ("test", (test,))):
            pixels, labels = _small(split, classes, each)
            planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
            key = "labels" if prefix == "label" else f"{prefix}s"
            for part, name in enumerate(names):
                rows = slice(part, None, len(names))
                _write(root / base / name, batch_bytes({"data": planes[rows], key: labels[rows]}))
        names_of = [f"class {label}" for label in range(classes)]
        _write(root / base / meta, batch_bytes({f"{prefix}_names": names_of}))

    return write


def _svhn(root: Path, classes: int, each: int, size: int) -> None:
    for split in ("train", "test"):
        pixels, labels = _small(split, 10, each)
        numbers = np.array([[label or 10] for label in labels], dtype=np.uint8)
        _matlab(root / f"{split}_32x32.mat", X=np.moveaxis(pixels, 0, -1), y=numbers)


def _flowers102(root: Path, classes: int, each: int, size: int) -> None:
    places = [(split, *place) for split in SPLITS for place in _cells(classes, each)]
    named = {f"image_{number:05}.jpg": place for number, place in enumerate(places, 1)}
    _photographs(root / "flowers-102" / "jpg", size, named)
    _matlab(root / "flowers-102" / "imagelabels.mat", labels=np.array([[label + 1 for _, label, _ in places]]))
    ids = {split: [[n for n, place in enumerate(places, 1) if place[0] == split]] for split in SPLITS}
    _matlab(root / "flowers-102" / "setid.mat", trnid=ids["train"], valid=ids["val"], tstid=ids["test"])


def _food101(root: Path, classes: int, each: int, size: int) -> None:
    for split in ("train", "test"):
        named = {f"dish_{label}/{split}{number}": (split, label, number) for label, number in _cells(classes, each)}
        _photographs(root / "food-101" / "images", size, {f"{name}.jpg": place for name, place in named.items()})
        table = {f"dish_{c}": [name for name, place in named.items() if place[1] == c] for c in range(classes)}
        _write(root / "food-101" / "meta" / f"{split}.json", json.dumps(table))


def _fgvc_aircraft(root: Path, classes: int, each: int, size: int) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    for name in ("variants", "families", "manufacturers"):
        _write(folder / f"{name}.txt", "".join(f"Type {label}\n" for label in range(classes)))
    for split in SPLITS:
        named = {f"{SPLITS.index(split)}{c:03}{n:03}": (split, c, n) for c, n in _cells(classes, each)}
        _photographs(folder / "images", size, {f"{name}.jpg": place for name, place in named.items()})
        lines = "".join(f"{name} Type {place[1]}\n" for name, place in named.items())
        for level in ("variant", "family", "manufacturer"):
            _write(folder / f"images_{level}_{split}.txt", lines)


def _stanford_cars(root: Path, classes: int, each: int, size: int) -> None:
    folder = root / "stanford_cars"
    files = {"train": folder / "devkit" / "cars_train_annos.mat", "test": folder / "cars_test_annos_withlabels.mat"}
    for split, file in files.items():
        named = {f"{n:05}.jpg": (split, *place) for n, place in enumerate(_cells(classes, each), 1)}
        _photographs(folder / f"cars_{split}", size, named)
        rows = np.array(
            [(place[1] + 1, name) for name, place in named.items()], dtype=[("class", "u1"), ("fname", "O")]
        )
        _matlab(file, annotations=rows)
    names = np.array([f"Car {label}" for label in range(classes)], dtype=object)
    _matlab(folder / "devkit" / "cars_meta.mat", class_names=names)


def _dtd(root: Path, classes: int, each: int, size: int) -> None:
    folder = root / "dtd" / "dtd"
    for split in SPLITS:
        named = {f"kind{c}/kind{c}_{split}{n}.jpg": (split, c, n) for c, n in _cells(classes, each)}
        _photographs(folder / "images", size, named)
        for partition in range(1, 11):
            _write(folder / "labels" / f"{split}{partition}.txt", "".join(f"{name}\n" for name in named))


def _oxford_iiit_pets(root: Path, classes: int, each: int, size: int) -> None:
    """Photographs of one breed each, with a trimap: pet (1), background (2) and a border between them (3)."""
    folder = root / "oxford-iiit-pet"
    for split, file in (("train", "trainval"), ("test", "test")):
        named = {f"breed_{c}_{split}{n}": (c, n) for c, n in _cells(classes, each)}
        for name, place in named.items():
            image, inside = _scene(split, *place, size)
            values = np.where(inside, 1, np.where(_grown(inside), 3, 2)).astype(np.uint8)
            _save_pair(folder / "images" / f"{name}.jpg", image, folder / "annotations" / "trimaps", values)
        lines = "".join(f"{name} {place[0] + 1} 1 1\n" for name, place in named.items())
        _write(folder / "annotations" / f"{file}.txt", lines)


def _voc2012_masks(root: Path, classes: int, each: int, size: int) -> None:
    """One object an image, of any of the 20 classes, with a border that does not count (255)."""
    folder = root / "VOCdevkit" / "VOC2012"
    for split, file in (("train", "train"), ("val", "val")):
        places = [(label, number) for label in range(20) for number in range(each)]
        names = [f"{split}_{label}_{number}" for label, number in places]
        for (label, number), name in zip(places, names, strict=True):
            image, inside = _scene(split, label, number, size)
            values = np.where(inside, label + 1, np.where(_grown(inside), 255, 0)).astype(np.uint8)
            _save_pair(folder / "JPEGImages" / f"{name}.jpg", image, folder / "SegmentationClass", values)
        _write(folder / "ImageSets" / "Segmentation" / f"{file}.txt", "".join(f"{name}\n" for name in names))


def _cityscapes_masks(root: Path, classes: int, each: int, size: int) -> None:
    """Streets with one object of any of the 19 classes each, and a border that does not count, in two cities."""
    folder = root / "cityscapes"
    for split in ("train", "val"):
        for row, value in enumerate(CITYSCAPES):
            for number in range(each):
                image, inside = _scene(split, row, number, size)
                values = np.where(inside, value, np.where(_grown(inside), 3, CITYSCAPES[0]))
                city = ("aachen", "zurich")[number % 2]
                stem = f"{city}/{city}_{row:06}_{number:06}"
                _save_png(folder / "leftImg8bit" / split / f"{stem}_leftImg8bit.png", image)
                _save_png(folder / "gtFine" / split / f"{stem}_gtFine_labelIds.png", values.astype(np.uint8))


def _save_png(file: Path, pixels: Pixels) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def _scene(split: str, label: int, number: int, size: int) -> tuple[Pixels, NDArray[np.bool_]]:
    """An image with a rectangle of the stripes of a class on plain grey, and where the rectangle is."""
    high, wide = size, size * 3 // 2
    rng = np.random.default_rng([SPLITS.index(split), label, number])
    top, left = int(rng.integers(high // 8, high // 3)), int(rng.integers(wide // 8, wide // 2))
    inside = np.zeros((high, wide), dtype=np.bool_)
    inside[top : top + high // 2, left : left + wide // 3] = True
    grey = rng.normal(60, 6, (high, wide, 3)).clip(0, 255).astype(np.uint8)
    return np.where(inside[..., None], drawn(split, label, number, high, wide), grey), inside


def _grown(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels inside, and two around them."""
    grown = inside.copy()
    for axis in (0, 1):
        for by in (-2, -1, 1, 2):
            grown |= np.roll(inside, by, axis)
    return grown


def _save_pair(file: Path, image: Pixels, masks: Path, values: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file, quality=90)
    mask = Image.fromarray(values).convert("P")
    mask.putdata(values.flatten().tolist())
    mask.save(masks / f"{file.stem}.png")


def _eurosat(root: Path, classes: int, each: int, size: int) -> None:
    named = {f"Land{c}/Land{c}_{n}.jpg": ("train", c, n) for c, n in _cells(classes, each)}
    _photographs(root / "eurosat" / "2750", size, named)


def _medmnist(root: Path, classes: int, each: int, size: int = 28, set: str = "pathmnist") -> None:  # noqa: A002
    table: dict[str, Any] = {}
    for split in SPLITS:
        places = list(_cells(classes, each))
        labels = np.array([[label] for label, _ in places], dtype=np.uint8)
        if set == "chestmnist":  # its own, every other image the next class too, and every sixth none
            labels = np.array([_several(classes, *place) for place in places], dtype=np.uint8)
        table |= {
            f"{split}_images": np.stack([drawn(split, *place, size, size) for place in places]),
            f"{split}_labels": labels,
        }
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / (f"{set}.npz" if size == 28 else f"{set}_{size}.npz"), allow_pickle=False, **table)


def _vtab1k(root: Path, classes: int, each: int, size: int, task: str = "cifar") -> None:
    folder = root / "vtab-1k" / task
    lists: dict[str, str] = {}
    for split, name in (("train", "train800"), ("val", "val200"), ("test", "test")):
        named = {f"images/{name}/{c}_{n}.jpg": (split, c, n) for c, n in _cells(classes, each)}
        _photographs(folder, size, named)
        lists[name] = "".join(f"{file} {place[1]}\n" for file, place in named.items())
    for name, lines in {**lists, "train800val200": lists["train800"] + lists["val200"]}.items():
        _write(folder / f"{name}.txt", lines)


def _several(classes: int, label: int, number: int) -> list[int]:
    """0 or 1 for each class of an image."""
    own = {label, (label + 1) % classes} if number % 2 else {label}
    return [int(each in own and number % 6 != 0) for each in range(classes)]


def _fashion_mnist(root: Path, classes: int, each: int, size: int) -> None:
    for split, name in (("train", "train"), ("test", "t10k")):
        pixels, labels = _small(split, 10, each)
        grey = pixels[:, 2:30, 2:30, 0]
        head = struct.pack(">4I", 0x803, *grey.shape), struct.pack(">2I", 0x801, len(labels))
        _write(root / f"{name}-images-idx3-ubyte.gz", gzip.compress(head[0] + grey.tobytes(), mtime=0))
        _write(root / f"{name}-labels-idx1-ubyte.gz", gzip.compress(head[1] + bytes(labels), mtime=0))


def _folder(root: Path, classes: int, each: int, size: int) -> None:
    named = {f"kind {c}/{n}.jpg": ("train", c, n) for c, n in _cells(classes, each)}
    _photographs(root / "train", size, named)


WRITERS: Mapping[str, Callable[[Path, int, int, int], None]] = {  # by the name of a published set
    "cifar10": _cifar(
        "cifar-10-batches-py", tuple(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta", "label"
    ),
    "cifar100": _cifar("cifar-100-python", ("train",), "test", "meta", "fine_label"),
    "cityscapes_masks": _cityscapes_masks,
    "svhn": _svhn,
    "flowers102": _flowers102,
    "food101": _food101,
    "fgvc_aircraft": _fgvc_aircraft,
    "stanford_cars": _stanford_cars,
    "dtd": _dtd,
    "oxford_iiit_pets": _oxford_iiit_pets,
    "oxford_iiit_pets_masks": _oxford_iiit_pets,
    "voc2012_masks": _voc2012_masks,
    "eurosat": _eurosat,
    "medmnist": _medmnist,
    "vtab1k": _vtab1k,
}
OTHER_WRITERS: Mapping[str, Callable[[Path, int, int, int], None]] = {  # of sources that no function reads
    "fashion_mnist": _fashion_mnist,
    "folder": _folder,
}
