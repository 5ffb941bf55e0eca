"""Listed images as values that a source gives: decoded into memory, or with labels alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from harness.data.decoding import square_pixels
from harness.data.images import Images, check_memory, content_hash, recipe_hash
from harness.data.listings import ListedImages, Listing
from harness.data.masks import MaskFiles, present_classes
from harness.data.splits import SourceSplits


def read_listing(listing: Listing, size: int, channels: int, resize: int | None = None) -> SourceSplits:
    """Decode all splits at the input size; the content hashes are those of the original images."""
    check_memory(len(listing), size, channels + isinstance(listing.train.labels, MaskFiles))
    splits = {name: _decoded(split, listing.classes, size, channels, resize) for name, split in listing.splits.items()}
    return with_notes(listing, splits)


def outline_listing(listing: Listing) -> SourceSplits | None:
    """All splits without pixels, every image counted as a distinct one; nothing is decoded. None: the labels are
    masks, which are not known without it.
    """
    if isinstance(listing.train.labels, MaskFiles):
        return None
    splits = {}
    for name, split in listing.splits.items():
        hashes = tuple(recipe_hash(name, index) for index in range(len(split)))
        splits[name] = Images(torch.empty(len(split), 0), _labels(split), listing.classes, hashes)
    return SourceSplits(splits["train"], splits.get("select"), splits.get("test"))


def _labels(split: ListedImages) -> torch.Tensor:
    return torch.from_numpy(np.array(split.labels, dtype=np.int64))


def _decoded(split: ListedImages, classes: tuple[str, ...], size: int, channels: int, resize: int | None) -> Images:
    pixels = np.empty((len(split), channels, size, size), dtype=np.uint8)
    masks = np.empty((len(split), size, size), dtype=np.uint8) if isinstance(split.labels, MaskFiles) else None
    hashes = []
    for row in range(len(split)):
        image = split.decoded(row)
        hashes.append(content_hash(np.asarray(image)))
        pixels[row] = square_pixels(image, size, channels, resize)
        if masks is not None and isinstance(split.labels, MaskFiles):
            masks[row] = split.labels.square(row, image.size, size, resize, len(classes))
    if masks is not None:
        present = present_classes(masks, len(classes))
        return Images(torch.from_numpy(pixels), torch.from_numpy(masks), classes, tuple(hashes), present)
    return Images(torch.from_numpy(pixels), _labels(split), classes, tuple(hashes))


def with_notes(listing: Listing, splits: Mapping[str, Images]) -> SourceSplits:
    """The splits, with a note on images of equal content under several classes, in any of them."""
    return SourceSplits(splits["train"], splits.get("select"), splits.get("test"), _contradictions(listing, splits))


def _contradictions(listing: Listing, splits: Mapping[str, Images]) -> tuple[str, ...]:
    if isinstance(listing.train.labels, MaskFiles):
        return ()
    places: dict[bytes, dict[str, tuple[str, int]]] = {}
    for name, images in splits.items():
        for index, (label, key) in enumerate(zip(images.labels.tolist(), images.hashes, strict=True)):
            places.setdefault(key, {}).setdefault(str(label), (name, index))
    several = {key: list(found.values()) for key, found in places.items() if len(found) > 1}
    if not several:
        return ()
    total = sum(map(len, splits.values()))
    count = sum(key in several for images in splits.values() for key in images.hashes)
    examples = "; ".join(
        " and ".join(listing.splits[name].name(index) for name, index in found[:2])
        for found in list(several.values())[:3]
    )
    return (f"{count} of {total} images ({count / total:.1%}) occur under more than one class: {examples}",)
