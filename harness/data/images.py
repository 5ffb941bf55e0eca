"""Labelled images in memory: content hashes, channels, size, and the memory that a data set may take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from harness.data.locations import DataError

MEMORY_LIMIT = 2 * 1024**3  # bytes of pixels of one data set; above it an epoch would swap instead of train
SALT = b"eavit-bench content 1\0"  # part of every split ever made: changing it moves images between splits
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow converts to grey
CHUNK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Pixels uint8 (n, channels, height, width), labels int64 (n,) into ``classes``, and one hash an image.

    Where an image may have several labels they are 0 or 1, int64 (n, classes); where each pixel has one, masks uint8
    (n, height, width), and ``present`` says which classes each of them holds. Of images that stay on disk ``pixels``
    are their places in the listing, int64 (n,).

    The hash decides the split of an image. It is taken before any resizing, so a split does not depend on the input
    size; synthetic images have the hash of their recipe, since float arithmetic may differ in a bit across machines.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    hashes: tuple[bytes, ...]
    present: NDArray[np.int64] | None = None  # 0 or 1, (n, classes); of masks alone

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def several(self) -> bool:
        """Return whether an image may have more than one class."""
        return self.labels.ndim > 1

    @property
    def _classes(self) -> NDArray[np.int64]:
        """0 or 1 for each class of each image that may have several, (n, classes)."""
        return self.labels.numpy() if self.present is None else self.present

    @property
    def strata(self) -> NDArray[np.int64]:
        """Class of each image by which images are divided, (n,). Of several labels that of the fewest images here; of
        none ``len(classes)``.
        """
        if not self.several:
            return self.labels.numpy()
        labels = self._classes
        rarest = np.where(labels > 0, labels.sum(0), np.iinfo(np.int64).max).argmin(1)
        return np.where(labels.any(1), rarest, len(self.classes))

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Number of images that have each class."""
        if self.several:
            counts: NDArray[np.int64] = self._classes.sum(0)
            return counts
        return np.bincount(self.labels.numpy(), minlength=len(self.classes))

    def take(self, index: NDArray[np.int64]) -> Images:
        rows = torch.from_numpy(index)
        hashes = tuple(self.hashes[i] for i in index.tolist())
        present = None if self.present is None else self.present[index]
        return Images(self.pixels[rows], self.labels[rows], self.classes, hashes, present)


def content_hash(pixels: NDArray[np.uint8]) -> bytes:
    """Salted SHA-256 of one image, shape included (a 2 x 8 image is not the 4 x 4 one of the same bytes)."""
    shape = ",".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(SALT + shape + b"\0" + pixels.tobytes()).digest()


def recipe_hash(*recipe: object) -> bytes:
    return hashlib.sha256(SALT + repr(recipe).encode()).digest()


def images_from_arrays(pixels: NDArray[np.uint8], labels: NDArray[np.int64], classes: Iterable[str]) -> Images:
    """``pixels`` (n, h, w) or (n, c, h, w)."""
    array = np.ascontiguousarray(pixels if pixels.ndim == 4 else pixels[:, None])
    hashes = tuple(content_hash(image) for image in array)
    return Images(torch.from_numpy(array), torch.from_numpy(labels.astype(np.int64)), tuple(classes), hashes)


def convert_channels(pixels: Tensor, channels: int) -> Tensor:
    """Grey to RGB by repeating, RGB to grey by luma. uint8 in, uint8 out."""
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    return torch.cat([(part.float() * weights).sum(1, keepdim=True).round().byte() for part in pixels.split(CHUNK)])


def resize(pixels: Tensor, size: int) -> Tensor:
    """Bicubic, antialiased when shrinking. uint8 in, uint8 out."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    resized = [
        F.interpolate(part.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
        for part in pixels.split(CHUNK)
    ]
    return torch.cat([part.round_().clamp_(0, 255).byte() for part in resized])


def to_input(images: Images, size: int, channels: int, larger: int | None = None) -> Images:
    """The same images at the input size and channels of a suite; hashes stay those of the originals.

    ``larger``: size to bring them to before the centre is cut out.
    """
    check_memory(len(images), size, channels)
    pixels = convert_channels(images.pixels, channels)
    if pixels.shape[-1] != size or larger is None:
        side = larger or size
        margin = round((side - size) / 2)
        pixels = resize(pixels, side)[..., margin : margin + size, margin : margin + size].contiguous()
    return Images(pixels, images.labels, images.classes, images.hashes)


def check_memory(count: int, size: int, channels: int) -> None:
    """Raise DataError if ``count`` images of the input size need more than ``MEMORY_LIMIT``."""
    need = count * channels * size * size
    if need > MEMORY_LIMIT:
        raise DataError(
            f"{count} images of {channels} x {size} x {size} need {need / 1024**3:.1f} GiB of memory, more than the "
            f"{MEMORY_LIMIT / 1024**3:.0f} GiB that a data set may take. Use a smaller [input] size or fewer images. "
            'Folders and listings need none of it with reading = "disk".'
        )
