"""Images that stay on disk: decoded when a batch is read, by worker processes; content hashes and pixels of evaluation
splits are kept in files below the data root, which may be deleted.

The batches do not depend on the number of workers: order and augmentation are named by seed, epoch and image.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from harness.code_digest import digest
from harness.data.batches import AUGMENTS, Draw, ImageSplit, affine_normalisation, named_generator
from harness.data.decoding import DECODING_VERSION, plane_pixels, square_pixels
from harness.data.images import Images, content_hash
from harness.data.listed_images import with_notes
from harness.data.listings import Listing, listing_state
from harness.data.locations import DataError, data_root
from harness.data.masks import MaskFiles
from harness.data.splits import SourceSplits
from harness.suite import DataSet, Input

FLIPS = {"imagenet_crop": 0.0, "imagenet_crop_flip": 0.5}  # crops of the original image: probability of a mirror image
CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # share of the original's area, and width by height
BLOCK = 64  # images that a worker decodes at once where no batch is wanted
Crop = Callable[[Image.Image], Image.Image]
HASHES, PIXELS = "hashes", "pixels"  # folders below the data root


class MappedDataset(Dataset[Any]):
    """Values of a function at the keys that a loader asks for; a DataError is a value too, as it crosses processes."""

    def __init__(self, function: Callable[[int], Any]) -> None:
        self._function = function

    def __getitem__(self, key: int) -> Any:
        try:
            return self._function(key)
        except DataError as error:
            return DataError(str(error))


def mapped(
    function: Callable[[int], Any], batches: Sequence[list[int]], workers: int, collate: Callable[[list[Any]], Any]
) -> Iterator[Any]:
    """``collate`` of the function's values at the keys of each batch, in order, computed ahead by worker processes."""
    loader = DataLoader(
        MappedDataset(function),
        batch_sampler=batches,
        num_workers=min(workers, len(batches)),
        collate_fn=partial(_collated, collate),
        generator=torch.Generator(),  # else it draws from the global one
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _collated(collate: Callable[[list[Any]], Any], values: list[Any]) -> Any:
    return next((value for value in values if isinstance(value, DataError)), None) or collate(values)


# --- content hashes -------------------------------------------------------------------------------------------------


def index_listing(listing: Listing, spec: DataSet) -> SourceSplits:
    """All splits with labels and content hashes; ``pixels`` are the places of the images in the whole listing."""
    if any(isinstance(split.labels, MaskFiles) for split in listing.splits.values()):
        raise DataError('reading = "disk": only for labels; masks are kept in memory with their images')
    hashes = _hashes(listing, spec)
    splits, start = {}, 0
    for name, split in listing.splits.items():
        places = torch.arange(start, start + len(split))
        labels = torch.as_tensor(np.asarray(split.labels, dtype=np.int64))
        splits[name] = Images(places, labels, listing.classes, tuple(hashes[start : start + len(split)]))
        start += len(split)
    return with_notes(listing, splits)


def _hashes(listing: Listing, spec: DataSet) -> list[bytes]:
    """Content hash of every image, in the order of the splits; kept as long as no file and no code changes."""
    code = digest(spec.use) if spec.use else ""
    versions = f"{DECODING_VERSION} {PIL.__version__} {code} {spec.options} {listing_state(listing)}"
    state = sha256(versions.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    file = data_root() / HASHES / f"{state}.npy"
    kept = _kept_hashes(file, len(listing))
    if kept is not None:
        return kept
    blocks = torch.arange(len(listing)).split(BLOCK)
    keys = [block.tolist() for block in blocks]
    hashes = [each for block in mapped(partial(_hash_of, listing), keys, spec.workers, list) for each in block]
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
        write_beside(file, [np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 32)], np.save)
    return hashes


def _kept_hashes(file: Path, count: int) -> list[bytes] | None:
    try:
        table = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return [row.tobytes() for row in table] if table.shape == (count, 32) and table.dtype == np.uint8 else None


def _hash_of(listing: Listing, place: int) -> bytes:
    return content_hash(np.asarray(original(listing, place)))


def original(listing: Listing, place: int) -> Image.Image:
    """Image at a place of the whole listing: train, then select, then test."""
    for split in listing.splits.values():
        if place < len(split):
            return split.decoded(place)
        place -= len(split)
    raise IndexError(place)


def write_beside(file: Path, parts: Any, write: Callable[[Any, Any], object]) -> None:
    """Write each of ``parts`` to a file that has its name only when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=f".{file.stem}.", suffix=".tmp", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as opened:
            for part in parts:
                write(opened, part)
        Path(beside).rename(file)
    finally:
        Path(beside).unlink(missing_ok=True)


# --- reading --------------------------------------------------------------------------------------------------------


def training_split(listing: Listing, part: Images, spec: DataSet, input: Input) -> ImageSplit:
    """Split that decodes each image every time it is read."""
    reader = OriginalReader(listing, part.pixels, input, FLIPS.get(spec.augment), spec.workers)
    augment = AUGMENTS["none" if spec.augment in FLIPS else spec.augment]
    normalisation = affine_normalisation(input.mean, input.std, input.channels)
    return ImageSplit(reader, part.labels, part.classes, normalisation, augment)


def evaluation_split(listing: Listing, part: Images, spec: DataSet, input: Input) -> ImageSplit:
    """Split that is read many times: its pixels at the input size are written to a file at the first reading."""
    reader = PixelFileReader(OriginalReader(listing, part.pixels, input, None, spec.workers), part.hashes)
    normalisation = affine_normalisation(input.mean, input.std, input.channels)
    return ImageSplit(reader, part.labels, part.classes, normalisation, AUGMENTS["none"])


class OriginalReader:
    """Decodes images as batches are read. ``flip``: probability of a mirror image of a random crop; None: no crops."""

    def __init__(self, listing: Listing, places: Tensor, input: Input, flip: float | None, workers: int) -> None:
        self.input, self.workers = input, workers
        self._listing, self._places, self._flip = listing, places, flip

    def __len__(self) -> int:
        return len(self._places)

    def __call__(self, batches: Sequence[Tensor], draw: Draw) -> Iterator[Tensor]:
        rows = [batch.tolist() for batch in batches]
        if draw is None or self._flip is None:
            return mapped(self._square, rows, self.workers, torch.stack)
        crop = _random_crop(self.input.size)
        return mapped(partial(self._cropped, crop, self._flip, draw), rows, self.workers, torch.stack)

    def _square(self, row: int) -> Tensor:
        image = original(self._listing, int(self._places[row]))
        return _tensor(square_pixels(image, self.input.size, self.input.channels, self.input.resize))

    def _cropped(self, crop: Crop, flip: float, draw: tuple[int, int], row: int) -> Tensor:
        image = original(self._listing, int(self._places[row]))
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.default_generator.manual_seed(named_generator("crops", *draw, row).initial_seed())
            pixels = plane_pixels(crop(image), self.input.channels)
            mirrored = bool(torch.rand(()) < flip)
        return _tensor(pixels[..., ::-1] if mirrored else pixels)


def _random_crop(size: int) -> Crop:
    from torchvision.transforms import InterpolationMode, v2  # late: takes seconds, and memory has no need of it

    crop: Crop = v2.RandomResizedCrop(size, scale=CROP_AREA, ratio=CROP_RATIO, interpolation=InterpolationMode.BICUBIC)
    return crop


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels))


class PixelFileReader:
    """Reads pixels from a file below the data root, which the first reading makes from the original images."""

    def __init__(self, originals: OriginalReader, hashes: Sequence[bytes]) -> None:
        self._originals, self._hashes = originals, hashes
        input = originals.input
        self._shape = (len(originals), input.channels, input.size, input.size)

    @cached_property
    def _file(self) -> Path:
        shown = f"{DECODING_VERSION} {PIL.__version__} {self._shape} {self._originals.input.resize}"
        name = sha256(shown.encode() + b"".join(self._hashes)).hexdigest()[:32]
        file = data_root().absolute() / PIXELS / f"{name}.bin"
        if not (file.is_file() and file.stat().st_size == np.prod(self._shape)):
            blocks = torch.arange(len(self._originals)).split(BLOCK)
            pixels = (block.numpy().data for block in self._originals(blocks, None))
            try:
                write_beside(file, pixels, lambda opened, block: opened.write(block))
            except PermissionError as error:
                raise DataError(
                    f'{file.parent}: cannot be written ({error.strerror}); reading = "disk" keeps the pixels of the '
                    "select and test splits there. EAVIT_DATA names another data root."
                ) from error
        return file

    def __call__(self, batches: Sequence[Tensor], draw: Draw) -> Iterator[Tensor]:
        for rows in batches:
            opened = np.memmap(self._file, np.uint8, "r", shape=self._shape)
            yield torch.from_numpy(np.array(opened[rows.numpy()]))


def part_facts(parts: Mapping[str, Images]) -> Iterator[bytes]:
    """Bytes of what a fingerprint of images on disk covers: classes, content hashes and labels of all splits."""
    yield f"disk, decoding {DECODING_VERSION}".encode()
    for name, part in sorted(parts.items()):
        yield repr((name, len(part), part.classes)).encode("utf-8", "surrogatepass")
        yield b"".join(part.hashes)
        yield part.labels.numpy().tobytes()
