"""Downloads into a data root: with a time limit, and without empty folders where nothing came."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Seconds without an answer: torchvision sets no limit, and a silent network must not hang a cell.
DOWNLOAD_TIMEOUT = 20.0


@contextmanager
def downloading(root: Path, seconds: float = DOWNLOAD_TIMEOUT) -> Iterator[None]:
    """Limit the wait for an answer; remove the folders that a download which fails made in ``root`` and left empty."""
    had = set(root.iterdir()) if root.is_dir() else None
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    except BaseException:
        for made in [root] if had is None else set(root.iterdir()) - had:
            _remove_empty(made)
        raise
    finally:
        socket.setdefaulttimeout(before)


def _remove_empty(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):  # there is something in it
            Path(folder).rmdir()
