"""Division of images into fit, select (folds A and B) and test, by class and content hash alone.

Images of equal content form one group, and a group is never divided. A group whose images have several labels counts
for the smallest of them. All functions but :func:`divide` take images sorted by hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from harness.data.images import Images
from harness.data.locations import DataError
from harness.messages import quoted

SPLITS = ("fit", "select_a", "select_b", "test")
TEST_SHARE = Fraction(1, 4)  # of all images, where there is no official test split
SELECT_SHARE = Fraction(1, 5)  # of the others, where there is no official validation split

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SourceSplits:
    """Images of a source: ``train``, and the official ``select`` and ``test`` splits where they exist.

    ``notes``: what the owner should know and what is no fault.
    """

    train: Images
    select: Images | None = None
    test: Images | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(len(part) for part in (self.train, self.select, self.test) if part is not None)


@dataclass(frozen=True, slots=True, eq=False)
class DividedImages:
    parts: Mapping[str, Images]  # by the names of SPLITS
    dropped: int  # training images left out because an official select or test split holds the same image
    notes: tuple[str, ...] = ()


def divide(source: SourceSplits, sizes: Mapping[str, int | None]) -> DividedImages:
    """``sizes``: number of images wanted for ``"fit"``, ``"select"``, ``"test"``; ``None`` keeps all."""
    _check_classes(source.train)
    remaining = 3 if source.select is None else 1  # distinct images of each class that the other splits need
    train, test = _official_or_cut(sort_by_hash(source.train), source.test, TEST_SHARE, "test", 1, remaining)
    official = None if source.select is None else _without(source.select, test)
    fit, select = _official_or_cut(train, official, SELECT_SHARE, "select", 2, 1)
    folds = subsample(select, sizes.get("select"), "select", least=2)
    if official is None and sizes.get("fit") is None:
        fit = _without(train, folds)  # an official split is never trained on; what was cut from the training images is
    fold = fold_of_each(folds)
    parts = {
        "fit": subsample(fit, sizes.get("fit"), "fit"),
        "select_a": folds.take(np.flatnonzero(fold == 0)),
        "select_b": folds.take(np.flatnonzero(fold == 1)),
        "test": subsample(test, sizes.get("test"), "test"),
    }
    for name, part in parts.items():
        _check_every_class(name, part)
    return DividedImages(parts, len(source) - len(fit) - len(select) - len(test), source.notes)


def _check_classes(train: Images) -> None:
    if len(train.classes) < 2:
        raise DataError(f"{len(train.classes)} class(es) to train on are too few: a data set needs at least 2.")
    rare = [name for name, count in zip(train.classes, train.class_counts, strict=True) if count < 2]
    if rare:
        raise DataError(
            f"{len(rare)} class(es) have fewer than 2 images to train on, too few: {', '.join(map(quoted, rare[:5]))}. "
            "Add images or remove the class."
        )


def sort_by_hash(images: Images) -> Images:
    """The order of the source must show neither in the splits nor in the order of batches."""
    labels = (images.strata if images.labels.ndim == 3 else images.labels).tolist()
    return images.take(
        np.array(sorted(range(len(images)), key=lambda i: (images.hashes[i], labels[i])), dtype=np.int64)
    )


def _official_or_cut(
    train: Images, official: Images | None, share: Fraction, name: str, least: int, remaining: int
) -> tuple[Images, Images]:
    if official is None:
        cut = stratified_mask(train, share, name, least, remaining)
        return train.take(np.flatnonzero(~cut)), train.take(np.flatnonzero(cut))
    rest = _without(train, official)
    if not len(rest):
        raise DataError(f"no image is left to train on: all of them are also in the {name} split.")
    return rest, sort_by_hash(official)


def _without(images: Images, other: Images) -> Images:
    """Drop what ``other`` also holds: an official split is kept whole, and nothing is trained on its images."""
    seen = set(other.hashes)
    return images.take(np.array([i for i, key in enumerate(images.hashes) if key not in seen], dtype=np.int64))


def _groups(images: Images) -> tuple[Index, Index, Index]:
    """Group of each image; label and number of images of each group."""
    starts = np.array(
        [i for i, key in enumerate(images.hashes) if not i or key != images.hashes[i - 1]], dtype=np.int64
    )
    sizes = np.diff(starts, append=len(images))
    return np.repeat(np.arange(len(starts)), sizes), images.strata[starts], sizes


def stratified_mask(images: Images, share: Fraction, name: str, least: int, remaining: int) -> NDArray[np.bool_]:
    """Mask of the ``share`` of every class: at least ``least`` of its groups, ``remaining`` groups not taken. Where an
    image may have several labels, a class has others than those it is divided by: too few of these all stay.
    """
    group, label, size = _groups(images)
    mask = np.zeros(len(label), dtype=np.bool_)
    for index, title in enumerate((*images.classes, "no class") if images.several else images.classes):
        members = np.flatnonzero(label == index)
        if len(members) < least + remaining and images.several:
            continue
        if len(members) < least + remaining:
            raise DataError(
                f"class {title!r} has {len(members)} distinct image(s) when the {name} split is made, and needs "
                f"{least + remaining}: too few. Without official splits each class needs at least 4 distinct images "
                "(fit, select A, select B, test)."
            )
        before = size[members].cumsum() - size[members]
        taken = (before < round(share * int(size[members].sum()))) | (np.arange(len(members)) < least)
        mask[members[taken][: len(members) - remaining]] = True
    return mask[group]


def fold_of_each(images: Images) -> Index:
    """0 or 1 for each image: the groups alternate, class after class, so that each fold has half of every class."""
    group, label, _ = _groups(images)
    fold = np.empty(len(label), dtype=np.int64)
    fold[np.argsort(label, kind="stable")] = np.arange(len(label)) % 2
    return fold[group]


def subsample(images: Images, size: int | None, name: str, least: int = 1) -> Images:
    """First images by content hash, classes in proportion, at least ``least`` of each class."""
    if size is None:
        return images
    if size > len(images):
        raise DataError(f"{name} = {size} is more than the {len(images)} images that the {name} split has.")
    labels, classes = images.strata, len(images.classes) + images.several
    if size < least * classes:
        raise DataError(
            f"{name} = {size} is too few: {classes} classes need at least {least * classes} images "
            f"({least} of each class)."
        )
    quotas = proportional_quotas(np.bincount(labels, minlength=classes).tolist(), size, least)
    rows = [np.flatnonzero(labels == label)[:quota] for label, quota in enumerate(quotas)]
    return images.take(np.sort(np.concatenate(rows)))


def proportional_quotas(counts: Sequence[int], size: int, least: int = 1) -> list[int]:
    """Largest remainders: ``size`` shared in proportion to ``counts``, none above its count or below ``least``."""
    shares = [Fraction(count * size, sum(counts)) for count in counts]
    quotas = [min(count, max(least, int(share))) for count, share in zip(counts, shares, strict=True)]
    while sum(quotas) < size:
        below = [i for i, count in enumerate(counts) if quotas[i] < count]
        quotas[max(below, key=lambda i: (shares[i] - quotas[i], -i))] += 1
    while sum(quotas) > size:
        above = [i for i in range(len(counts)) if quotas[i] > least]
        quotas[min(above, key=lambda i: (shares[i] - quotas[i], i))] -= 1
    return quotas


def _check_every_class(name: str, images: Images) -> None:
    missing = np.flatnonzero(images.class_counts == 0)
    everywhere = np.flatnonzero(images.class_counts == len(images)) if images.labels.ndim == 2 else missing
    if len(everywhere) and not len(missing):
        raise DataError(f"all images of the {name} split have the class {quoted(images.classes[everywhere[0]])}.")
    if len(missing):
        titles = ", ".join(quoted(images.classes[label]) for label in missing[:5])
        raise DataError(
            f"the {name} split has no image of {len(missing)} class(es): {titles}. Each class needs at least one "
            "distinct image in each of fit, select A, select B and test: add images or ask for larger splits."
        )
