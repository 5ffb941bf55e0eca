"""From a data set's entry in a suite to its splits: fit, select (folds A and B) and a sealed test split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from harness.data.batches import MemorySplit
from harness.data.contents import Contents, contents, fingerprint
from harness.data.images import DataError, LeakError
from harness.data.locations import concerning
from harness.protocol import Split
from harness.suite import DataSet, Input

__all__ = ["Data", "DataError", "LeakError", "load"]

FROZEN = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The splits of one data set. Law: the test split is given only for the hash of frozen choices."""

    fit: Split
    select_a: Split
    select_b: Split
    classes: tuple[str, ...]
    sizes: Mapping[str, int]  # images by "fit", "select_a", "select_b", "test"
    dropped: int  # training images left out because an official select or test split holds the same image
    fingerprint: str  # SHA-256 over hashes, labels and pixels of all splits
    _open: Callable[[str], Split] = field(repr=False)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def test(self, frozen: str) -> Split:
        """Open the test split for one frozen set of choices (hex hash); other hashes are refused from then on."""
        return self._open(frozen)

    def __reduce__(self) -> NoReturn:
        raise LeakError("data cannot be pickled or copied: a copy would carry the sealed test split with it.")


def load(spec: DataSet, input: Input) -> Data:
    """Read, divide and seal. Raises :class:`DataError` for whatever a person can mend."""
    found = contents(spec, input)
    try:
        return _sealed(found, spec, input)
    except DataError as error:
        raise concerning(spec.name, spec.source, error) from error


def _sealed(found: Contents, spec: DataSet, input: Input) -> Data:
    ready = found.parts
    return Data(
        fit=MemorySplit(ready["fit"], input.mean, input.std, spec.augment),
        select_a=MemorySplit(ready["select_a"], input.mean, input.std),
        select_b=MemorySplit(ready["select_b"], input.mean, input.std),
        classes=ready["fit"].classes,
        sizes={name: len(part) for name, part in ready.items()},
        dropped=found.dropped,
        fingerprint=fingerprint(ready),
        _open=_seal(MemorySplit(ready["test"], input.mean, input.std)),
    )


def _seal(test: Split) -> Callable[[str], Split]:
    opened: list[str] = []

    def unseal(frozen: str) -> Split:
        if not isinstance(frozen, str) or not FROZEN.fullmatch(frozen):
            raise LeakError(
                f"the test split opens only for the hash of frozen choices (16 to 64 hex digits), not for {frozen!r}."
            )
        if opened and opened[0] != frozen:
            raise LeakError(
                f"the test split was opened for choices {opened[0][:16]} and is asked again for {frozen[:16]}: "
                "choices must not change once the test split was seen."
            )
        opened[:] = [frozen]
        return test

    return unseal
