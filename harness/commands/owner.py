"""Owner of a folder of results: the suite file that it belongs to. Two files of one name must not share it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness import suite
from harness.jobs.files import write_atomic
from harness.suite import SuiteError

NAME = "suite.json"  # in a folder of results: {"file": path of the suite file, relative to the folder}


class OwnerError(ValueError):
    """A folder of results that belongs to another suite file."""


def record_owner(folder: Path, file: Path) -> None:
    """Write down that the folder holds the results of this suite file; OwnerError where it holds those of another."""
    refuse_other(folder, file)
    if not _is_owner(folder, file):
        relative = os.path.relpath(file.resolve(), folder.resolve())
        write_atomic(folder / NAME, f"{json.dumps({'file': relative}, ensure_ascii=False)}\n".encode())


def owner_of(folder: Path) -> Path | None:
    """The suite file, where the folder names one that is there."""
    try:
        file = folder / str(json.loads((folder / NAME).read_bytes())["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(os.path.normpath(file)) if file.is_file() else None


def refuse_other(folder: Path, file: Path) -> None:
    """OwnerError where the folder belongs to another suite file that is there and still has the name of the folder."""
    owner = owner_of(folder)
    if owner is None or _is_owner(folder, file):
        return
    try:
        name = suite.load(owner).name
    except SuiteError:  # being edited: it may have any name
        name = folder.name
    if name == folder.name:
        raise OwnerError(
            f"{file}: name: {name!r}: {folder} holds the results of {owner}, which has the same name; give one of the "
            "two another name, or keep the results apart with --results"
        )


def _is_owner(folder: Path, file: Path) -> bool:
    owner = owner_of(folder)
    return owner is not None and file.exists() and owner.samefile(file)
