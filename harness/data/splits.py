"""Who goes to fit, select (folds A and B) and test: decided by class and content hash, never by order, method or seed.

Images with equal content form one group, and a group is never divided. Where groups of one content carry several
labels the smallest label decides for all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from harness.data.images import DataError, Images, Parts

TEST_SHARE = Fraction(1, 4)  # of all images, where there is no official test split
SELECT_SHARE = Fraction(1, 5)  # of what is left, where there is no official validation split

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Divided:
    fit: Images
    select_a: Images
    select_b: Images
    test: Images
    dropped: int  # training images left out because an official select or test split holds the same image


def divide(parts: Parts, sizes: Mapping[str, int | None]) -> Divided:
    """``sizes``: wanted number of images by ``"fit"``, ``"select"``, ``"test"``; ``None`` keeps all."""
    left = 3 if parts.select is None else 1  # distinct images of each class still to be shared out after the test split
    train, test = _official(parts.train, parts.test, TEST_SHARE, "test", least=1, left=left)
    fit, select = _official(train, _without(parts.select, test), SELECT_SHARE, "select", least=2, left=1)
    folds = subsample(select, sizes.get("select"), "select", least=2)
    half = parity(folds)
    divided = Divided(
        fit=ordered(subsample(fit, sizes.get("fit"), "fit")),
        select_a=ordered(folds.take(np.flatnonzero(half == 0))),
        select_b=ordered(folds.take(np.flatnonzero(half == 1))),
        test=ordered(subsample(test, sizes.get("test"), "test")),
        dropped=_count(parts) - len(fit) - len(select) - len(test),
    )
    _every_class(divided)
    return divided


def _count(parts: Parts) -> int:
    return sum(len(part) for part in (parts.train, parts.select, parts.test) if part is not None)


def _official(
    train: Images, official: Images | None, share: Fraction, name: str, *, least: int, left: int
) -> tuple[Images, Images]:
    if official is None:
        out = chosen(train, share, name, least, left)
        return train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out))
    rest = _without(train, official)
    if rest is None:
        raise DataError(f"no image is left to train on: all of them are also in the {name} split.")
    return rest, official


def _without(images: Images | None, other: Images) -> Images | None:
    """Drop what ``other`` also holds: an official split is kept whole, and nothing is trained on its images."""
    if images is None:
        return None
    seen = set(other.hashes)
    return images.take(np.array([i for i, key in enumerate(images.hashes) if key not in seen], dtype=np.int64))


def groups(images: Images) -> dict[int, list[list[int]]]:
    """Class -> groups of rows of equal content, in the order of their hashes."""
    rows: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, key in enumerate(images.hashes):
        rows[key].append(row)
    labels = images.labels.tolist()
    by_class: dict[int, list[list[int]]] = {label: [] for label in range(len(images.classes))}
    for key in sorted(rows):
        by_class[min(labels[row] for row in rows[key])].append(rows[key])
    return by_class


def chosen(images: Images, share: Fraction, name: str, least: int = 1, left: int = 1) -> NDArray[np.bool_]:
    """Mask of the stratified ``share`` of every class: at least ``least`` groups of it, ``left`` groups not taken."""
    mask = np.zeros(len(images), dtype=np.bool_)
    for label, members in groups(images).items():
        if len(members) < least + left:
            raise DataError(
                f'class "{images.classes[label]}" has {len(members)} distinct image(s) when the {name} split is made, '
                f"and needs {least + left}: too few. Without official splits each class needs at least 4 distinct "
                "images (fit, select A, select B, test)."
            )
        wanted = round(share * sum(map(len, members)))
        mask[_first(members[: len(members) - left], wanted, least)] = True
    return mask


def _first(members: Sequence[Sequence[int]], wanted: int, least: int) -> list[int]:
    """Rows of whole groups, in hash order, until ``wanted`` rows and ``least`` groups are there."""
    rows: list[int] = []
    for taken, group in enumerate(members):
        if taken >= least and len(rows) >= wanted:
            break
        rows.extend(group)
    return rows


def parity(images: Images) -> NDArray[np.int64]:
    """0 or 1 for each image: every other group of a class, the odd ones out shared between both halves."""
    half = np.zeros(len(images), dtype=np.int64)
    turn = 0
    for members in groups(images).values():
        for group in members:
            half[group] = turn
            turn = 1 - turn
    return half


def subsample(images: Images, size: int | None, name: str, least: int = 1) -> Images:
    """The first images by content hash, classes in proportion, at least ``least`` of each class."""
    if size is None:
        return images
    if size > len(images):
        raise DataError(f"{name} = {size} is more than the {len(images)} images that the {name} split has.")
    counts = np.bincount(images.labels.numpy(), minlength=len(images.classes))
    if size < least * len(counts):
        raise DataError(
            f"{name} = {size} is too few: {len(counts)} classes need at least {least * len(counts)} images "
            f"({least} of each class)."
        )
    keep: list[int] = []
    by_class = _by_class(images)
    for label, quota in enumerate(quotas(counts.tolist(), size, least)):
        keep.extend(by_class[label][:quota])
    return images.take(np.array(sorted(keep), dtype=np.int64))


def _by_class(images: Images) -> dict[int, list[int]]:
    labels = images.labels.tolist()
    rows: dict[int, list[int]] = {label: [] for label in range(len(images.classes))}
    for row in sorted(range(len(images)), key=lambda i: (images.hashes[i], labels[i])):
        rows[labels[row]].append(row)
    return rows


def quotas(counts: Sequence[int], size: int, least: int = 1) -> list[int]:
    """Largest remainders: ``size`` shared in proportion to ``counts``, none above its count or below ``least``."""
    total = sum(counts)
    shares = [Fraction(count * size, total) for count in counts]
    given = [min(count, max(least, int(share))) for count, share in zip(counts, shares, strict=True)]
    while sum(given) < size:
        open_ = [i for i, count in enumerate(counts) if given[i] < count]
        given[max(open_, key=lambda i: (shares[i] - given[i], -i))] += 1
    while sum(given) > size:
        open_ = [i for i in range(len(counts)) if given[i] > least]
        given[min(open_, key=lambda i: (shares[i] - given[i], i))] -= 1
    return given


def ordered(images: Images) -> Images:
    """By content hash: the order of the source must not show in the order of batches."""
    labels = images.labels.tolist()
    order = sorted(range(len(images)), key=lambda i: (images.hashes[i], labels[i]))
    return images.take(np.array(order, dtype=np.int64))


def _every_class(divided: Divided) -> None:
    for name in ("fit", "select_a", "select_b", "test"):
        part: Images = getattr(divided, name)
        missing = [part.classes[label] for label in _absent(part.labels.tolist(), len(part.classes))]
        if missing:
            raise DataError(
                f"the {name} split has no image of {len(missing)} class(es): {', '.join(missing[:5])}. Each class "
                "needs at least one distinct image in each of fit, select A, select B and test: add images or ask "
                "for larger splits."
            )


def _absent(labels: Iterable[int], count: int) -> list[int]:
    present = set(labels)
    return [label for label in range(count) if label not in present]
