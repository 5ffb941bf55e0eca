"""Files of other processes, read as hostile: regular files of bounded size, and JSON without surprises."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

LIMIT = 64 * 2**20  # bytes of one file


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
            os.lseek(handle, start, os.SEEK_SET)
            pieces = [os.read(handle, limit)]
            while pieces[-1] and sum(map(len, pieces)) < limit:
                pieces.append(os.read(handle, limit))
            return b"".join(pieces)
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
