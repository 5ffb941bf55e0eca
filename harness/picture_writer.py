"""Writing of a data set that a callable makes: the entry point of a child process, never of a command.

The callable takes the entry's ``options`` and yields ``(split, class name, picture)``: split ``train``, ``val`` or
``test``, picture a PIL image or a uint8 array (h, w) or (h, w, 3).
"""

from __future__ import annotations

import collections.abc
import re
import shutil
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from harness.data.locations import DataError
from harness.messages import choices, one_line
from harness.plugins import PluginError, check_options, resolve

SPLITS = ("train", "val", "test")
SEQUENCES = (
    *(collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator, collections.abc.Sequence),
    *(list, tuple),
)
CLASS_NAME = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]*")


def write_pictures(request: Mapping[str, Any]) -> int:
    """Make the pictures and rename the folder when it is whole; their number."""
    use, options, folder = request["use"], request["options"], Path(request["folder"])
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    counts: dict[Path, int] = {}
    for item in _made(use, options):
        split, name, picture = _checked(use, item)
        place = beside / split / name
        place.mkdir(parents=True, exist_ok=True)
        counts[place] = counts.get(place, 0) + 1
        picture.save(place / f"{counts[place] - 1:06}.png")
    if not counts:
        raise DataError(f"use = {use!r}: yielded no picture")
    beside.rename(folder)
    return sum(counts.values())


def _made(use: str, options: Mapping[str, Any]) -> Iterable[Any]:
    factory = resolve(use)
    if not makes_pictures(factory):
        raise PluginError(
            f"use = {use!r}: does not say that it makes pictures: annotate it to return "
            "Iterator[tuple[str, str, PIL.Image.Image]], which are split, class and picture"
        )
    check_options(use, factory, options)
    pictures: Iterable[Any] = factory(**options)
    return pictures


def makes_pictures(factory: Callable[..., Any]) -> bool:
    """Return whether the annotation of a function says that it gives a sequence of pictures."""
    try:
        annotation = typing.get_type_hints(factory).get("return")
    except (NameError, TypeError, AttributeError):
        return False
    return typing.get_origin(annotation) in SEQUENCES


def _checked(use: str, item: Any) -> tuple[str, str, Any]:
    """Split, class and PIL image of one item, or DataError."""
    try:
        split, name, picture = item
    except (TypeError, ValueError):
        what = one_line(repr(item), 60)
        raise DataError(f"use = {use!r}: yielded {what}, not (split, class name, picture)") from None
    if split not in SPLITS:
        raise DataError(f"use = {use!r}: split {split!r} is unknown; {choices(str(split), SPLITS)}")
    if not isinstance(name, str) or not CLASS_NAME.fullmatch(name):
        raise DataError(f"use = {use!r}: class name {name!r}: must be a text that can name a folder")
    if isinstance(picture, Image.Image):
        return split, name, picture
    try:
        return split, name, Image.fromarray(picture)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise DataError(f"use = {use!r}: a picture of {name!r} is {type(picture).__name__}: {error}") from error
