"""Loading of a data set named in a suite: fit, select (folds A and B), a sealed test split, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from harness.data.batches import MemorySplit
from harness.data.decoding import DECODING_VERSION
from harness.data.disk import evaluation_split, index_listing, part_facts, training_split
from harness.data.image_folder import list_folder
from harness.data.images import Images, check_memory, to_input
from harness.data.listed_images import outline_listing, read_listing
from harness.data.listings import Listing, open_listing
from harness.data.locations import DataError, with_dataset_name
from harness.data.sources import outline_source, read_source
from harness.data.splits import DividedImages, divide
from harness.protocol import Split
from harness.suite import DataSet, Input
from harness.tasks import task_of_labels

CHOICE_HASH = re.compile(r"[0-9a-f]{16,64}")


class LeakError(RuntimeError):
    """Raised on access to the test split before the choices were frozen."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedDataset:
    """Splits of one data set. Law: the test split is given only for the hash of frozen choices."""

    fit: Split
    select_a: Split
    select_b: Split
    classes: tuple[str, ...]
    sizes: Mapping[str, int]  # images by "fit", "select_a", "select_b", "test"
    dropped: int  # training images left out because an official select or test split holds the same image
    notes: tuple[str, ...]  # what the owner should know and what is no fault
    fingerprint: str  # SHA-256 over hashes, labels and pixels of all splits
    _open: Callable[[str], Split] = field(repr=False)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def check_task(self, name: str, task: str) -> None:
        """DataError unless the labels of this set, of that ``name``, are those of a suite's task."""
        labels = task_of_labels(self.fit.labels.ndim)
        if labels != task:
            raise DataError(f"{name}: its labels are those of task = {labels!r}, and the suite has task = {task!r}")

    def test(self, choice_hash: str) -> Split:
        """Open the test split for one frozen set of choices (hex hash); other hashes are refused from then on."""
        return self._open(choice_hash)

    def __reduce__(self) -> NoReturn:
        raise LeakError("data cannot be pickled or copied: a copy would carry the sealed test split with it.")


def load_dataset(spec: DataSet, input: Input) -> LoadedDataset:
    """Read, divide and seal; DataError for every fault that the owner of the data can fix."""
    try:
        return _sealed(*_divided(spec, input), spec, input)
    except DataError as error:
        raise with_dataset_name(spec.name, spec.source, error) from error


def _divided(spec: DataSet, input: Input) -> tuple[DividedImages, Listing | None]:
    """All splits, at the input size or as places in a listing, and the listing."""
    listing = _listing(spec)
    if listing is None:
        source = read_source(spec.source, spec.path, input.resize or input.size, input.channels)
    elif spec.reading == "disk":
        source = index_listing(listing, spec, input)
    else:
        source = read_listing(listing, input.size, input.channels, input.resize)
    divided = divide(source, _sizes(spec))
    if listing is not None:
        return divided, listing
    parts = {name: to_input(part, input.size, input.channels, input.resize) for name, part in divided.parts.items()}
    return DividedImages(parts, divided.dropped, divided.notes), None


def _listing(spec: DataSet, *, download: bool = True) -> Listing | None:
    """Listing of an image folder or of what a callable lists; None for the other sources."""
    if spec.source == "listing":
        return open_listing(spec.use or "", spec.options, spec.path, download=download)
    return list_folder(spec.path) if spec.source == "folder" else None


def _sizes(spec: DataSet) -> dict[str, int | None]:
    return {"fit": spec.fit, "select": spec.select, "test": spec.test}


def check_dataset(spec: DataSet, input: Input) -> dict[str, int]:
    """Number of images in each split, or DataError, found by the same functions as on loading but without decoding.

    Checked: files and folders, classes, splits and folds large enough, memory. Empty where the images must be
    downloaded first. Duplicates and damaged images of a folder or listing show on loading only.
    """
    try:
        listing = _listing(spec)
        source = outline_source(spec.source, spec.path) if listing is None else outline_listing(listing)
        if source is None:
            return {}
        if spec.reading == "memory":
            check_memory(len(source), input.size, input.channels)
        return {name: len(part) for name, part in divide(source, _sizes(spec)).parts.items()}
    except DataError as error:
        raise with_dataset_name(spec.name, spec.source, error) from error


def _sealed(divided: DividedImages, listing: Listing | None, spec: DataSet, input: Input) -> LoadedDataset:
    parts = divided.parts
    if listing is not None and spec.reading == "disk":
        fit: Split = training_split(listing, parts["fit"], spec, input)
        select_a, select_b, test = (
            evaluation_split(listing, parts[name], spec, input) for name in ("select_a", "select_b", "test")
        )
    else:
        fit = MemorySplit(parts["fit"], input.mean, input.std, spec.augment)
        select_a, select_b, test = (
            MemorySplit(parts[name], input.mean, input.std) for name in ("select_a", "select_b", "test")
        )
    return LoadedDataset(
        fit=fit,
        select_a=select_a,
        select_b=select_b,
        classes=parts["fit"].classes,
        sizes={name: len(part) for name, part in parts.items()},
        dropped=divided.dropped,
        notes=divided.notes,
        fingerprint=fingerprint(parts, spec),
        _open=_seal(test),
    )


def _seal(test: Split) -> Callable[[str], Split]:
    opened: list[str] = []

    def unseal(choice_hash: str) -> Split:
        if not isinstance(choice_hash, str) or not CHOICE_HASH.fullmatch(choice_hash):
            raise LeakError(
                "the test split opens only for the hash of frozen choices (16 to 64 hex digits), not for "
                f"{choice_hash!r}."
            )
        if opened and opened[0] != choice_hash:
            raise LeakError(
                f"the test split was opened for choices {opened[0][:16]} and is requested again for "
                f"{choice_hash[:16]}: choices must not change after the test split was opened."
            )
        opened[:] = [choice_hash]
        return test

    return unseal


def fingerprint(parts: Mapping[str, Images], spec: DataSet) -> str:
    """Equal exactly when every split holds the same images, labels and pixels: else runs are not comparable."""
    if spec.reading == "disk":
        return hashlib.sha256(b"".join(part_facts(parts))).hexdigest()
    decoded = spec.source in ("folder", "listing")
    digest = hashlib.sha256(f"decoding {DECODING_VERSION}".encode() if decoded else b"")
    for name, part in sorted(parts.items()):
        digest.update(repr((name, tuple(part.pixels.shape), part.classes)).encode("utf-8", "surrogatepass"))
        digest.update(b"".join(part.hashes))
        digest.update(part.labels.numpy().tobytes())
        digest.update(memoryview(part.pixels.contiguous().numpy()))  # type: ignore[arg-type]  # no copy
    return digest.hexdigest()


def describe_dataset(request: dict[str, Any]) -> dict[str, str | int]:
    """Fingerprint of a data set and images of its fit split, or why it cannot be read; as plain values, for a planner.

    ``request``: ``dataset`` and ``input`` of a suite.
    """
    input = Input.model_validate_json(json.dumps(request["input"]))
    spec = DataSet.model_validate_json(json.dumps(request["dataset"]))
    try:
        parts = _divided(spec, input)[0].parts
        return {"fingerprint": fingerprint(parts, spec), "fit": len(parts["fit"])}
    except DataError as error:
        return {"missing": str(with_dataset_name(spec.name, spec.source, error))}
    except Exception as error:  # planning must go on whatever a file holds; the cell will fail by name
        named = DataError(f"{type(error).__name__}: {error}")
        return {"missing": str(with_dataset_name(spec.name, spec.source, named))}
