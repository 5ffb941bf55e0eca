"""Folders that are there whole or not at all: written beside, flushed to the disk, exchanged in one step."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.jobs.files import flush_folder, write_flushed


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """``folder`` holds exactly ``files`` afterwards; cut at any moment, all of the old ones or all of the new."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    _remove_leftovers(folder)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        for name, data in files.items():
            write_flushed(beside / name, data)
        flush_folder(beside)
        _swap(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    flush_folder(folder.parent)


def _remove_leftovers(folder: Path) -> None:
    """Of processes of this machine that are gone."""
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):
        number = left.name.split(".")[-2]
        if number.isdecimal() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    """The two change names in one step; where the system cannot, there is a moment without the folder."""
    if not folder.exists():
        new.replace(folder)
        return
    exchange, here = 2, -100  # RENAME_EXCHANGE, AT_FDCWD
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and rename(here, os.fsencode(new), here, os.fsencode(folder), exchange) == 0:
        return
    aside = new.with_name(f"{new.name}.old")
    folder.replace(aside)
    new.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)
