"""Batches of images: order, normalisation and augmentation, vectorised, from explicit generators."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from harness.data.images import Images
from harness.tasks import IGNORED

CROP_AREA = (0.35, 1.0)  # share of the image's area that a random crop keeps
CROP_RATIO = (3 / 4, 4 / 3)

Augment = Callable[[Tensor, Generator], Tensor]  # pixels 0..255, uint8 or float (b, c, h, w), to the same shape
Draw = tuple[int, int] | None  # seed and epoch that name random draws; None: images without augmentation
Batch = Tensor | tuple[Tensor, Tensor]  # pixels uint8; or with the masks that were cut with them
Read = Callable[[Sequence[Tensor], Draw], Iterable[Batch]]  # rows of each batch -> each batch, in order


class ImageSplit:
    """A :class:`harness.protocol.Split` of images that ``read`` gives in batches, uint8 (b, c, h, w)."""

    def __init__(
        self,
        read: Read,
        labels: Tensor,
        classes: Sequence[str],
        normalisation: tuple[Tensor, Tensor],
        augment: str = "none",
    ) -> None:
        self._read = read
        self._labels = labels.float() if labels.ndim == 2 else labels  # several labels an image: 0 and 1
        self.classes = tuple(classes)
        self._scale, self._shift = normalisation
        self._augment = augment

    @property
    def labels(self) -> Tensor:
        return self._labels

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        if size < 1:
            raise ValueError(f"batch size must be at least 1, not {size}")
        return self._ordered(size) if seed is None else self._shuffled(size, seed, epoch)

    def _ordered(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = torch.arange(len(self)).split(size)
        for rows, batch in zip(batches, self._read(batches, None), strict=True):
            pixels, labels = self._with_labels(batch, rows)
            yield self._normalised(pixels), labels

    def _shuffled(self, size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = named_generator("batches", seed, epoch)
        order = torch.randperm(len(self), generator=generator)
        last = max(1, len(self) - size + 1)  # a short last batch is dropped unless it is the only one
        batches = [order[start : start + size] for start in range(0, last, size)]
        for rows, batch in zip(batches, self._read(batches, (seed, epoch)), strict=True):
            pixels, labels = self._with_labels(batch, rows)
            state = generator.get_state()
            pixels = AUGMENTS[self._augment](pixels, generator)
            if labels.ndim == 3:  # a mask moves as its image does: the same draws
                generator.set_state(state)
                labels = MASK_AUGMENTS[self._augment](labels.unsqueeze(1), generator).squeeze(1).to(labels.dtype)
            yield self._normalised(pixels), labels

    def _with_labels(self, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
        return batch if isinstance(batch, tuple) else (batch, self._labels[rows])

    def _normalised(self, pixels: Tensor) -> Tensor:
        return torch.addcmul(self._shift, pixels.to(torch.float32), self._scale)


class MemorySplit(ImageSplit):
    """A split of pixels that are kept in memory."""

    def __init__(self, images: Images, mean: Sequence[float], std: Sequence[float], augment: str = "none") -> None:
        self._pixels = images.pixels
        normalisation = affine_normalisation(mean, std, images.pixels.shape[1])
        super().__init__(self._rows, images.labels, images.classes, normalisation, augment)

    def _rows(self, batches: Sequence[Tensor], draw: Draw) -> Iterator[Tensor]:
        return (self._pixels[rows] for rows in batches)


def named_generator(*name: object) -> Generator:
    """Generator whose seed is the hash of ``name``, so that two streams never overlap by accident."""
    digest = hashlib.sha256(repr(name).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def affine_normalisation(mean: Sequence[float], std: Sequence[float], channels: int) -> tuple[Tensor, Tensor]:
    """(x / 255 - mean) / std as one multiply and one add, each (1, c, 1, 1); ``mean`` and ``std``: 1 or c values."""
    means = torch.tensor(list(mean), dtype=torch.float64).expand(channels)
    deviations = torch.tensor(list(std), dtype=torch.float64).expand(channels)
    scale = (1 / (255 * deviations)).float().view(1, channels, 1, 1)
    return scale, (-means / deviations).float().view(1, channels, 1, 1)


def no_augmentation(pixels: Tensor, generator: Generator) -> Tensor:
    return pixels


def random_shift(pixels: Tensor, generator: Generator, fill: int = 0) -> Tensor:
    """Shift each image by whole pixels, up to size / 14 (2 of 28) either way, ``fill`` moving in."""
    count, channels, height, width = pixels.shape
    reach = max(1, height // 14)
    padded = F.pad(pixels, (reach, reach, reach, reach), value=fill)
    offset = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
    rows = (offset[0] + torch.arange(height)).view(count, 1, height, 1)
    columns = (offset[1] + torch.arange(width)).view(count, 1, 1, width)
    images = torch.arange(count).view(count, 1, 1, 1)
    return padded[images, torch.arange(channels).view(1, channels, 1, 1), rows, columns]


def random_crop(pixels: Tensor, generator: Generator, mode: str = "bilinear") -> Tensor:
    """Random resized crop: area and aspect ratio drawn as in Inception, the window inside the image."""
    return _resized_crop(pixels, generator, torch.ones(len(pixels)), mode)


def random_crop_flip(pixels: Tensor, generator: Generator, mode: str = "bilinear") -> Tensor:
    """Random resized crop, and a horizontal flip of half of the images."""
    signs = torch.randint(0, 2, (len(pixels),), generator=generator) * 2.0 - 1.0
    return _resized_crop(pixels, generator, signs, mode)


def _resized_crop(pixels: Tensor, generator: Generator, signs: Tensor, mode: str) -> Tensor:
    draw = torch.rand(4, len(pixels), generator=generator)
    area = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * draw[0]
    ratio = CROP_RATIO[0] * (CROP_RATIO[1] / CROP_RATIO[0]) ** draw[1]
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = wide * signs, (1 - wide) * (2 * draw[2] - 1)
    theta[:, 1, 1], theta[:, 1, 2] = high, (1 - high) * (2 * draw[3] - 1)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels.float(), grid, mode=mode, padding_mode="border", align_corners=False)


AUGMENTS: dict[str, Augment] = {
    "none": no_augmentation,
    "shift": random_shift,
    "crop": random_crop,
    "crop_flip": random_crop_flip,
}
MASK_AUGMENTS: dict[str, Augment] = {  # the same of masks, whose values are classes: no new ones come in between
    "none": no_augmentation,
    "shift": partial(random_shift, fill=IGNORED),
    "crop": partial(random_crop, mode="nearest"),
    "crop_flip": partial(random_crop_flip, mode="nearest"),
}
