"""Published data sets in torchvision's layout below the data root, each as a listing with its official splits.

A suite names them by import string, such as ``use = "harness.data.published:flowers102"``. Files that are missing are
downloaded by torchvision where their host still serves them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.data.listings import ListedImages, Listing, MissingFilesError
from harness.data.locations import DataError
from harness.data.masks import MaskFiles
from harness.data.pickled_arrays import read_batch
from harness.messages import quoted

DIGITS = tuple("0123456789")
Medical = Literal[
    "pathmnist",
    "dermamnist",
    "octmnist",
    "pneumoniamnist",
    "retinamnist",
    "breastmnist",
    "chestmnist",
    "bloodmnist",
    "tissuemnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
]

Vtab = Literal[
    "cifar", "caltech101", "dtd", "oxford_flowers102", "oxford_iiit_pet", "svhn", "sun397",
    "patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy",
    "clevr_count", "clevr_dist", "dmlab", "kitti", "dsprites_loc", "dsprites_ori", "smallnorb_azi", "smallnorb_ele",
]  # fmt: skip
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

CITYSCAPES_CLASSES = {  # the 19 that are trained and scored, and their values in the files
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip

__all__ = [
    "cifar10",
    "cifar100",
    "cityscapes_masks",
    "dtd",
    "eurosat",
    "fgvc_aircraft",
    "flowers102",
    "food101",
    "medmnist",
    "oxford_iiit_pets",
    "oxford_iiit_pets_masks",
    "stanford_cars",
    "svhn",
    "voc2012_masks",
    "vtab1k",
]


def cifar10(root: Path) -> Listing:
    """60,000 photographs of 32 x 32 in 10 classes, 170 MB; free for research, no licence stated."""
    names = [f"data_batch_{number}" for number in range(1, 6)]
    return _cifar("CIFAR10", root, "cifar-10-batches-py", names, "test_batch", "batches.meta", "label")


def cifar100(root: Path) -> Listing:
    """60,000 photographs of 32 x 32 in 100 classes, 170 MB; free for research, no licence stated."""
    return _cifar("CIFAR100", root, "cifar-100-python", ["train"], "test", "meta", "fine_label")


def svhn(root: Path) -> Listing:
    """99,289 digits of street views, 32 x 32 in 10 classes, 250 MB; for non-commercial use."""
    files = tuple(root / f"{split}_32x32.mat" for split in ("train", "test"))

    def download() -> None:
        for split in ("train", "test"):
            _torchvision("SVHN", root, split=split)

    _require("SVHN", root, files, download)
    train, test = (_matlab(file, "X", "y") for file in files)
    return Listing(DIGITS, _street_numbers(*train), test=_street_numbers(*test), files=files)


def flowers102(root: Path) -> Listing:
    """8,189 photographs of flowers in 102 classes, 350 MB; no licence stated."""
    folder = root / "flowers-102"
    files = (folder / "imagelabels.mat", folder / "setid.mat")
    _require("Flowers-102", folder, (*files, folder / "jpg"), partial(_torchvision, "Flowers102", root))
    (labels,) = _matlab(files[0], "labels")
    splits = _matlab(files[1], "trnid", "valid", "tstid")
    train, select, test = (
        ListedImages(
            [folder / "jpg" / f"image_{number:05}.jpg" for number in ids], _zero_based(labels.ravel()[ids - 1])
        )
        for ids in map(np.ravel, splits)
    )
    return Listing(tuple(f"{number:03}" for number in range(1, int(labels.max()) + 1)), train, select, test, files)


def food101(root: Path) -> Listing:
    """101,000 photographs of dishes in 101 classes, 5 GB; of Foodspotting, for research."""
    folder = root / "food-101"
    files = tuple(folder / "meta" / f"{split}.json" for split in ("train", "test"))
    _require("Food-101", folder, (*files, folder / "images"), partial(_torchvision, "Food101", root))
    train, test = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    classes = tuple(sorted(train))

    def listed(names: dict[str, list[str]]) -> ListedImages:
        pairs = [(folder / "images" / f"{name}.jpg", classes.index(key)) for key in classes for name in names[key]]
        return _of_pairs(pairs)

    return Listing(classes, listed(train), test=listed(test), files=files)


def fgvc_aircraft(root: Path, level: Literal["variant", "family", "manufacturer"] = "variant") -> Listing:
    """10,000 photographs of aircraft, 100 variants, 2.6 GB; for non-commercial research."""
    folder = root / "fgvc-aircraft-2013b" / "data"
    names = {"variant": "variants", "family": "families", "manufacturer": "manufacturers"}[level]
    files = (folder / f"{names}.txt", *(folder / f"images_{level}_{split}.txt" for split in ("train", "val", "test")))
    _require("FGVC-Aircraft", folder.parent, (*files, folder / "images"), partial(_torchvision, "FGVCAircraft", root))
    classes = tuple(_lines(files[0]))

    def listed(file: Path) -> ListedImages:
        pairs = (line.split(" ", 1) for line in _lines(file))
        return _of_pairs([(folder / "images" / f"{name}.jpg", classes.index(label)) for name, label in pairs])

    train, select, test = map(listed, files[1:])
    return Listing(classes, train, select, test, files)


def stanford_cars(root: Path) -> Listing:
    """16,185 photographs of cars in 196 classes, 1.9 GB; no licence stated. The download is gone: place the files."""
    folder = root / "stanford_cars"
    files = (
        folder / "devkit" / "cars_meta.mat",
        folder / "devkit" / "cars_train_annos.mat",
        folder / "cars_test_annos_withlabels.mat",
    )
    _require("Stanford Cars", folder, (*files, folder / "cars_train", folder / "cars_test"))
    (names,) = _matlab(files[0], "class_names")
    train, test = (
        _cars(file, folder / images) for file, images in zip(files[1:], ("cars_train", "cars_test"), strict=True)
    )
    return Listing(tuple(str(name) for name in names.tolist()), train, test=test, files=files)


def dtd(root: Path, partition: int = 1) -> Listing:
    """5,640 photographs of textures in 47 classes, 600 MB; for research. Options: partition, 1 to 10."""
    folder = root / "dtd" / "dtd"
    files = tuple(folder / "labels" / f"{split}{partition}.txt" for split in ("train", "val", "test"))
    _require("DTD", folder, (*files, folder / "images"), partial(_torchvision, "DTD", root))
    lines = [list(_lines(file)) for file in files]
    classes = tuple(sorted({line.partition("/")[0] for line in lines[0]}))
    train, select, test = (
        _of_pairs([(folder / "images" / line, classes.index(line.partition("/")[0])) for line in part])
        for part in lines
    )
    return Listing(classes, train, select, test, files)


def oxford_iiit_pets(root: Path) -> Listing:
    """7,349 photographs of cats and dogs in 37 breeds, 800 MB; CC BY-SA 4.0."""
    folder = root / "oxford-iiit-pet"
    files = tuple(folder / "annotations" / f"{split}.txt" for split in ("trainval", "test"))
    _require("Oxford-IIIT Pets", folder, (*files, folder / "images"), partial(_torchvision, "OxfordIIITPet", root))
    names: dict[int, str] = {}

    def listed(file: Path) -> ListedImages:
        pairs = []
        for line in _lines(file):
            name, label = line.split()[:2]
            names.setdefault(int(label) - 1, name.rpartition("_")[0].replace("_", " "))
            pairs.append((folder / "images" / f"{name}.jpg", int(label) - 1))
        return _of_pairs(pairs)

    train, test = map(listed, files)
    return Listing(tuple(names[label] for label in sorted(names)), train, test=test, files=files)


def oxford_iiit_pets_masks(root: Path) -> Listing:
    """7,349 photographs of cats and dogs, pixels of pet, background and border, 800 MB; CC BY-SA 4.0."""
    folder = root / "oxford-iiit-pet"
    masks = folder / "annotations" / "trimaps"
    files = tuple(folder / "annotations" / f"{split}.txt" for split in ("trainval", "test"))
    wanted = (*files, folder / "images", masks)
    _require("Oxford-IIIT Pets", folder, wanted, partial(_torchvision, "OxfordIIITPet", root))
    train, test = (_masked([line.split()[0] for line in _lines(file)], folder / "images", masks, 1) for file in files)
    return Listing(("pet", "background", "border"), train, test=test, files=files)


def voc2012_masks(root: Path) -> Listing:
    """2,913 photographs with 20 classes of objects and the background, 2 GB; of Flickr, for research.

    The official validation split is the test split.
    """
    folder = root / "VOCdevkit" / "VOC2012"
    images, masks = folder / "JPEGImages", folder / "SegmentationClass"
    files = tuple(folder / "ImageSets" / "Segmentation" / f"{split}.txt" for split in ("train", "val"))
    download = partial(_torchvision, "VOCSegmentation", root, year="2012", image_set="train")
    _require("PASCAL VOC 2012", folder, (*files, images, masks), download)
    train, test = (_masked(list(_lines(file)), images, masks, 0) for file in files)
    return Listing(("background", *VOC_CLASSES), train, test=test, files=files)


def cityscapes_masks(root: Path) -> Listing:
    """3,475 street scenes of 2048 x 1024 with 19 classes, 11 GB; for research, after registration.

    The official validation split is the test split; pixels of other values do not count.
    """
    folder = root / "cityscapes"
    images, masks = folder / "leftImg8bit", folder / "gtFine"
    wanted = [place / split for place in (images, masks) for split in ("train", "val")]
    _require("Cityscapes", folder, wanted, copy="cityscapes-dataset.com, after registration")

    def listed(split: str) -> ListedImages:
        files = sorted((images / split).glob("*/*_leftImg8bit.png"))
        names = [f"{file.parent.name}/{file.name.removesuffix('_leftImg8bit.png')}" for file in files]
        labels = [masks / split / f"{name}_gtFine_labelIds.png" for name in names]
        return ListedImages(files, MaskFiles(labels, values=tuple(CITYSCAPES_CLASSES.values())))

    return Listing(tuple(CITYSCAPES_CLASSES), listed("train"), test=listed("val"))


def eurosat(root: Path) -> Listing:
    """27,000 satellite images of 64 x 64 in 10 kinds of land use, 90 MB, no official splits; MIT."""
    folder = root / "eurosat" / "2750"
    _require("EuroSAT", folder, (folder,), partial(_torchvision, "EuroSAT", root))
    classes = tuple(sorted(child.name for child in folder.iterdir() if child.is_dir()))
    pairs = [(file, label) for label, name in enumerate(classes) for file in sorted((folder / name).glob("*.jpg"))]
    return Listing(classes, _of_pairs(pairs))


def medmnist(root: Path, set: Medical, size: Literal[28, 64, 128, 224] = 28) -> Listing:  # noqa: A002  # a key of suites
    """Medical images at 28 to 224 pixels, in chestmnist with several labels. Options: set, size; CC BY 4.0, the set
    dermamnist CC BY-NC 4.0.
    """
    file = root / (f"{set}.npz" if size == 28 else f"{set}_{size}.npz")
    _require(f"MedMNIST {set}", root, (file,), partial(_medical, root, set, size))
    try:
        with np.load(file, allow_pickle=False) as table:
            splits = {name: (table[f"{name}_images"], table[f"{name}_labels"]) for name in ("train", "val", "test")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: damaged ({type(error).__name__}: {error}); get it again.") from error
    if set == "chestmnist":  # several labels an image
        train, select, test = (ListedImages(images, labels) for images, labels in splits.values())
        return Listing(tuple(map(str, range(splits["train"][1].shape[1]))), train, select, test, (file,))
    train, select, test = (ListedImages(images, labels.ravel().tolist()) for images, labels in splits.values())
    classes = tuple(map(str, range(int(splits["train"][1].max()) + 1)))
    return Listing(classes, train, select, test, (file,))


def vtab1k(root: Path, task: Vtab, select: Literal["cut", "val200"] = "cut") -> Listing:
    """VTAB-1k: 1,000 training images of one of 19 tasks, and its test images. Options: task, select; no one licence."""
    folder = root / "vtab-1k" / task
    lists = ("train800val200", "test") if select == "cut" else ("train800", "val200", "test")
    files = {name: folder / f"{name}.txt" for name in lists}
    _require(f"VTAB-1k {task}", root, (*files.values(), folder / "images"))
    parts = {name: _listed_below(folder, file) for name, file in files.items()}
    classes = 1 + max(int(np.max(part.labels, initial=0)) for part in parts.values())  # type: ignore[arg-type]
    names, read = tuple(map(str, range(classes))), tuple(files.values())
    return Listing(names, parts[lists[0]], parts.get("val200"), parts["test"], read)


# --- parts of these -------------------------------------------------------------------------------------------------


def _require(
    title: str,
    place: Path,
    wanted: Sequence[Path],
    download: Callable[[], object] | None = None,
    copy: str = "a copy",
) -> None:
    missing = [path for path in wanted if not path.exists()]
    if missing:
        names = ", ".join(quoted(path.relative_to(place)) if path != place else "the folder" for path in missing)
        gone = "" if download else f" It is not downloaded: get it from {copy}."
        raise MissingFilesError(f"{title}: missing in {quoted(place)}: {names}.{gone}", download)


def _torchvision(name: str, root: Path, **options: Any) -> None:
    """Let torchvision download a set to where these functions look for it."""
    import torchvision  # late: takes seconds, and what is there needs no download

    root.mkdir(parents=True, exist_ok=True)
    getattr(torchvision.datasets, name)(str(root), download=True, **options)


def _medical(root: Path, name: str, size: int) -> None:
    """Let the package medmnist, which knows the addresses, download one set."""
    try:
        import medmnist as package  # type: ignore[import-not-found, unused-ignore]  # of the extra `medical`
    except ModuleNotFoundError:
        raise DataError(
            "python -m pip install 'eavit-bench[medical]', or in a clone -e '.[medical]', brings what downloads it."
        ) from None
    root.mkdir(parents=True, exist_ok=True)
    getattr(package, package.INFO[name]["python_class"])("train", root=str(root), size=size, download=True)


def _lines(file: Path) -> Iterator[str]:
    """Lines of a text file, without empty ones and comments."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return (line for line in lines if line and not line.startswith("#"))


def _matlab(file: Path, *names: str) -> list[NDArray[Any]]:
    """Variables of a MATLAB file of version 5, without axes of length one."""
    from scipy.io import loadmat

    try:
        table = loadmat(str(file), squeeze_me=True, variable_names=names)
        return [np.atleast_1d(table[name]) for name in names]
    except Exception as error:  # scipy raises whatever damaged bytes lead to
        raise DataError(f"{file}: damaged ({type(error).__name__}: {error}); get it again.") from error


def _of_pairs(pairs: Sequence[tuple[Path, int]]) -> ListedImages:
    return ListedImages([path for path, _ in pairs], [label for _, label in pairs])


def _listed_below(folder: Path, file: Path) -> ListedImages:
    """Images of a list with a path below the folder and a number in each line."""
    try:
        pairs = [(folder / name, int(label)) for name, label in (line.rsplit(maxsplit=1) for line in _lines(file))]
    except ValueError as error:
        raise DataError(f"{file}: damaged ({error}): each line holds a path and a number; get it again.") from error
    return _of_pairs(pairs)


def _masked(names: Sequence[str], images: Path, masks: Path, first: int) -> ListedImages:
    """Photographs and their masks by name; ``first``: the value of the first class."""
    files = [masks / f"{name}.png" for name in names]
    return ListedImages([images / f"{name}.jpg" for name in names], MaskFiles(files, first))


def _zero_based(labels: NDArray[Any]) -> list[int]:
    return [int(label) - 1 for label in labels]


def _cifar(title: str, root: Path, base: str, train: Sequence[str], test: str, meta: str, prefix: str) -> Listing:
    """``prefix``: of the keys that hold the labels and the names of the classes."""
    folder = root / base
    files = tuple(folder / name for name in (*train, test, meta))
    _require(title, folder, files, partial(_torchvision, title, root))
    *batches, last = (read_batch(file) for file in files[:-1])
    key = "labels" if prefix == "label" else f"{prefix}s"
    images = [
        ListedImages(
            np.concatenate([batch["data"] for batch in part]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
            [label for batch in part for label in batch[key]],
        )
        for part in (batches, [last])
    ]
    return Listing(tuple(read_batch(files[-1])[f"{prefix}_names"]), images[0], test=images[1], files=files)


def _street_numbers(pixels: NDArray[Any], labels: NDArray[Any]) -> ListedImages:
    """SVHN stores the images along the last axis and the digit 0 as class 10."""
    return ListedImages(np.moveaxis(pixels, -1, 0), [int(label) % 10 for label in labels])


def _cars(file: Path, folder: Path) -> ListedImages:
    (rows,) = _matlab(file, "annotations")
    return _of_pairs([(folder / str(row["fname"]), int(row["class"]) - 1) for row in rows])
