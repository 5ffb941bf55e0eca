"""Data sets made by a callable that a suite names (``use = "module:name"``), written once as a folder of PNG files.

The folder lies below the data root. Its name holds a hash of the callable's code and options, so that a change of
either makes another folder. What the callable has to give: :mod:`harness.picture_writer`. A callable that gives a
listing (:mod:`harness.data.listings`) makes no folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness import code_digest
from harness.data import locations
from harness.data.locations import PROJECT
from harness.jobs.call import CallError, call
from harness.plan import canonical_digest
from harness.suite import DataSet, Suite, SuiteError
from harness.toml import shown

PLACE = "plugins"  # folder below the data root
LISTING = "Listing"  # name of the class that lists images, as annotations write it
WRITER = 1  # grows when the same pictures would give other files
DEADLINE = 4 * 3600.0  # seconds for making the pictures of one set
ENTRY = "harness.picture_writer:write_pictures"


def located(suite: Suite) -> Suite:
    """The suite with the source of each data set that a callable gives: a listing, or a folder of the pictures that it
    makes, as its annotation says. Nothing is imported or made.
    """
    datasets = tuple(_located(entry, f"datasets[{index}]") for index, entry in enumerate(suite.datasets))
    return suite.model_copy(update={"datasets": datasets})


def _located(entry: DataSet, place: str) -> DataSet:
    if entry.use is None or entry.source == "listing":
        return entry
    if code_digest.return_annotation(entry.use).rpartition(".")[2] == LISTING:
        return entry.model_copy(update={"source": "listing"})
    if entry.path is not None:
        raise SuiteError((f"{place}.path: {shown(entry.path)}: leave it out where `use` makes the pictures",))
    return entry.model_copy(update={"path": str(folder_of(entry.use, entry.options))})


def folder_of(use: str, options: Mapping[str, Any]) -> Path:
    """Absolute path of the folder for these pictures, whether it is there or not."""
    digest = canonical_digest([WRITER, use, code_digest.digest(use), options])[:12]
    return (locations.data_root() / PLACE / f"{use.replace(':', '.')}-{digest}").absolute()


def make_missing(datasets: Iterable[DataSet], say: Callable[[str], None]) -> dict[str, str]:
    """Make the pictures that are not there yet, each set in a process of its own; why the others cannot be made."""
    failures: dict[str, str] = {}
    for entry in datasets:
        if entry.use is None or entry.source == "listing" or entry.path is None or Path(entry.path).exists():
            continue
        say(f"making the pictures of {entry.name} with {entry.use}")
        request = {"use": entry.use, "options": entry.options, "folder": entry.path}
        try:
            call(ENTRY, request, DEADLINE, PROJECT)
        except CallError as error:
            failures[entry.name] = str(error)
    return failures


def pictures_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of all pictures below a folder."""
    digest = sha256()
    for path in sorted(folder.rglob("*.png")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
