"""Files that are complete or not there, and files of other processes, which are read as hostile."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from harness.jobs.processes import alive

LIMIT = 64 * 2**20  # bytes of one file
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class UnreadableError(ValueError):
    """Raised for a file that is not there, not a regular file, too large, or not what it should hold."""


def read_regular(path: str | Path, limit: int = LIMIT, folder: int | None = None, start: int = 0) -> bytes:
    """The bytes of a regular file from ``start`` on; never waits for a pipe, opens a device or follows a link.

    ``folder``: the descriptor of the folder that ``path`` is relative to.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise UnreadableError(f"{path}: not a regular file")
            if state.st_size - start > limit:
                raise UnreadableError(f"{path}: {state.st_size} bytes; at most {limit} are read")
            with os.fdopen(os.dup(handle), "rb", buffering=0) as file:
                file.seek(start)
                return file.read(min(limit, max(0, state.st_size - start)))
        finally:
            os.close(handle)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None


def parse_json(text: bytes, where: str) -> Any:
    """The value that ``text`` holds; UnreadableError for NaN, infinities, deep nesting and whatever is not JSON."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise UnreadableError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise UnreadableError(f"{where}: not JSON: {error}") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; a kill at any moment leaves the old file or the new one."""
    replace_files(path.parent, {path.name: data})


def replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Replace files of ``folder`` in the order given, none before all are written; a kill leaves each old or new.

    A name may be that of a file in a folder below, ``below/name``.
    """
    temporary = {name: _beside(folder / name) for name in files}
    folders = {folder, *(path.parent for path in temporary.values())}
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    try:
        for name, data in files.items():
            write_flushed(temporary[name], data)
        for name, beside in temporary.items():
            beside.replace(folder / name)
    finally:
        for beside in temporary.values():
            beside.unlink(missing_ok=True)
    for each in folders:
        flush_folder(each)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def leftover_files(folder: Path) -> Iterator[Path]:
    """Half-written files of processes of this machine that are gone."""
    for path in sorted(folder.glob(".*.tmp")):
        pid = path.stem.rpartition(".")[2]
        if pid.isdecimal() and not alive(int(pid)):
            yield path


def write_flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Bring a rename to the disk: it is there only when the folder that holds the name is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
