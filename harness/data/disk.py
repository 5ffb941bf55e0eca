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
from harness.data.batches import Batch, Draw, ImageSplit, affine_normalisation, named_generator
from harness.data.crops import CROPS, Crop
from harness.data.decoding import DECODING_VERSION, plane_pixels, square_pixels
from harness.data.images import Images, check_memory, content_hash
from harness.data.listed_images import with_notes
from harness.data.listings import ListedImages, Listing, listing_state
from harness.data.locations import DataError, data_root
from harness.data.masks import MaskFiles, present_classes
from harness.data.splits import SourceSplits
from harness.suite import DataSet, Input

BLOCK = 64  # images that a worker decodes at once where no batch is wanted
HASHES, MASKS, PIXELS = "hashes", "masks", "pixels"  # folders below the data root


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


def index_listing(listing: Listing, spec: DataSet, input: Input) -> SourceSplits:
    """All splits with content hashes and labels, or masks at the input size; ``pixels`` are the places of the images in
    the whole listing.
    """
    hashes, masks = _hashes(listing, spec), _masks(listing, spec, input)
    splits, start = {}, 0
    for name, split in listing.splits.items():
        part = slice(start, start + len(split))
        places, of_part = torch.arange(part.start, part.stop), tuple(hashes[part])
        if masks is None:
            labels = torch.as_tensor(np.asarray(split.labels, dtype=np.int64))
            splits[name] = Images(places, labels, listing.classes, of_part)
        else:
            present = present_classes(masks[part], len(listing.classes))
            splits[name] = Images(places, torch.from_numpy(masks[part]), listing.classes, of_part, present)
        start = part.stop
    return with_notes(listing, splits)


def _hashes(listing: Listing, spec: DataSet) -> list[bytes]:
    """Content hash of every image, in the order of the splits."""
    table = _kept(HASHES, partial(_hash_of, listing), listing, spec, (32,))
    return [row.tobytes() for row in table]


def _masks(listing: Listing, spec: DataSet, input: Input) -> NDArray[np.uint8] | None:
    """Masks of all images, cut as the images of evaluation splits are, in the order of the splits; None: of labels."""
    if not isinstance(listing.train.labels, MaskFiles):
        return None
    check_memory(len(listing), input.size, 1)
    square = partial(_square_mask, listing, input.size, input.resize)
    return _kept(MASKS, square, listing, spec, (input.size, input.size), str(input.resize))


def _kept(
    folder: str,
    function: Callable[[int], NDArray[np.uint8]],
    listing: Listing,
    spec: DataSet,
    shape: tuple[int, ...],
    what: str = "",
) -> NDArray[np.uint8]:
    """Values of a function of each place; kept in a file as long as no file and no code changes."""
    code = digest(spec.use) if spec.use else ""
    versions = f"{DECODING_VERSION} {PIL.__version__} {code} {spec.options} {listing_state(listing)}"
    versions += f" {shape} {what}" if folder == MASKS else ""
    state = sha256(versions.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    file, whole = data_root() / folder / f"{state}.npy", (len(listing), *shape)
    with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile):
        table: NDArray[np.uint8] = np.load(file, allow_pickle=False)
        if table.shape == whole and table.dtype == np.uint8:
            return table
    keys = [block.tolist() for block in torch.arange(len(listing)).split(BLOCK)]
    values = [*mapped(function, keys, spec.workers, np.stack)]
    table = np.concatenate(values) if values else np.zeros(whole, np.uint8)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
        write_beside(file, [table], np.save)
    return table


def _hash_of(listing: Listing, place: int) -> NDArray[np.uint8]:
    return np.frombuffer(content_hash(np.asarray(original(listing, place))), dtype=np.uint8)


def _square_mask(listing: Listing, size: int, resize: int | None, place: int) -> NDArray[np.uint8]:
    split, row = _part_of(listing, place)
    if not isinstance(split.labels, MaskFiles):
        raise DataError("some splits have masks and some have labels")
    return split.labels.square(row, split.decoded(row).size, size, resize, len(listing.classes))


def original(listing: Listing, place: int) -> Image.Image:
    """Image at a place of the whole listing."""
    split, row = _part_of(listing, place)
    return split.decoded(row)


def original_mask(listing: Listing, place: int, extent: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Mask of an image of this ``extent`` (width, height) at a place of the whole listing; None where it has labels."""
    split, row = _part_of(listing, place)
    return split.labels.decoded(row, extent, len(listing.classes)) if isinstance(split.labels, MaskFiles) else None


def _part_of(listing: Listing, place: int) -> tuple[ListedImages, int]:
    """Split of a place of the whole listing, which is train, then select, then test; and the row in the split."""
    for split in listing.splits.values():
        if place < len(split):
            return split, place
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
    reader = OriginalReader(listing, part.pixels, input, spec.augment, spec.workers)
    augment = "none" if spec.augment in CROPS else spec.augment
    normalisation = affine_normalisation(input.mean, input.std, input.channels)
    return ImageSplit(reader, part.labels, part.classes, normalisation, augment)


def evaluation_split(listing: Listing, part: Images, spec: DataSet, input: Input) -> ImageSplit:
    """Split that is read many times: its pixels at the input size are written to a file at the first reading."""
    reader = PixelFileReader(OriginalReader(listing, part.pixels, input, "none", spec.workers), part.hashes)
    normalisation = affine_normalisation(input.mean, input.std, input.channels)
    return ImageSplit(reader, part.labels, part.classes, normalisation)


class OriginalReader:
    """Decodes images as batches are read. ``augment``: where it is one of :data:`CROPS`, batches that are drawn hold
    random crops of the original images, and of their masks.
    """

    def __init__(self, listing: Listing, places: Tensor, input: Input, augment: str, workers: int) -> None:
        self.input, self.workers = input, workers
        self._listing, self._places, self._augment = listing, places, augment

    def __len__(self) -> int:
        return len(self._places)

    def __call__(self, batches: Sequence[Tensor], draw: Draw) -> Iterator[Batch]:
        rows = [batch.tolist() for batch in batches]
        if draw is None or self._augment not in CROPS:
            return self.squares(batches)
        make, flip = CROPS[self._augment]
        return mapped(partial(self._cropped, make(self.input), flip, draw), rows, self.workers, _stacked)

    def squares(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Centres of the images, which are not random."""
        return mapped(self._square, [batch.tolist() for batch in batches], self.workers, torch.stack)

    def _square(self, row: int) -> Tensor:
        image = original(self._listing, int(self._places[row]))
        return _tensor(square_pixels(image, self.input.size, self.input.channels, self.input.resize))

    def _cropped(self, crop: Crop, flip: float, draw: tuple[int, int], row: int) -> tuple[Tensor, ...]:
        """Pixels of a crop; and its mask, where the image has one."""
        place = int(self._places[row])
        image = original(self._listing, place)
        mask = original_mask(self._listing, place, image.size)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.default_generator.manual_seed(named_generator("crops", *draw, row).initial_seed())
            cropped, mask = crop(image, mask)
            mirrored = bool(torch.rand(()) < flip)
        parts = [plane_pixels(cropped, self.input.channels), *([] if mask is None else [mask])]
        return tuple(_tensor(part[..., ::-1] if mirrored else part) for part in parts)


def _stacked(values: list[tuple[Tensor, ...]]) -> Batch:
    pixels, *masks = (torch.stack(part) for part in zip(*values, strict=True))
    return (pixels, masks[0]) if masks else pixels


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
            pixels = (block.numpy().data for block in self._originals.squares(blocks))
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
