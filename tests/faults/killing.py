"""SIGKILL at a chosen moment of the process that asks for it: at its n-th file operation, or after a while."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "fcntl.flock"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def at_operation(at: int, folder: Path, log: Path, who: str, torn: bool = False) -> None:
    """Die at the ``at``-th change of a file below ``folder``: an open for writing, a rename, a removal, a lock, and,
    between write and rename, a flush to the disk. ``torn``: the file that is flushed then lost its second half.
    """
    told, inside, left = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), str(folder.resolve()), at
    flush = os.fsync

    def count(what: str) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(told, f"{who} {what}\n".encode())
        return left == 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and (arguments[2] or 0) & WRITING):
            path = arguments[0]
            below = isinstance(path, int) or os.path.abspath(os.fsdecode(path)).startswith(inside)  # noqa: PTH100
            if below and count(event):
                os.kill(os.getpid(), signal.SIGKILL)

    def flushed(handle: int) -> None:
        if count("torn" if torn else "fsync"):
            if torn:
                with contextlib.suppress(OSError):  # a folder has no halves
                    os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        flush(handle)

    os.fsync = flushed
    sys.addaudithook(hook)


def after(seconds: float, log: Path, who: str) -> None:
    """Die so many seconds from now, whatever is done then: a helper kills, unless this process has ended before."""
    victim = os.getpid()
    if os.fork():
        return
    try:
        time.sleep(seconds)
        if os.getppid() == victim:
            told = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(told, f"{who} moment\n".encode())
            os.kill(victim, signal.SIGKILL)
    finally:
        os._exit(0)
