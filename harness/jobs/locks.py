"""Kernel locks, one for each job: whoever works on a job holds its lock. The kernel frees it when the holder dies.

No clock is read, and a process that was stopped keeps what it holds. Folders on NFS need version 4.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from harness.jobs.files import parse_json, read_regular

SUFFIX = ".lock"


class Locks:
    """Locks by name, as files of a folder that all processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def acquire(self, name: str) -> Lock | None:
        """None: another process holds it. OSError where the file cannot be made, such as on a full disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (lock := self._try(name)) is None:
            return None
        with contextlib.suppress(OSError):  # for people only
            owner = {"pid": os.getpid(), "host": socket.gethostname()}
            self.path(name).write_text(json.dumps(owner), encoding="utf-8")
        return Lock(lock, self.path(name))

    def holder(self, name: str) -> str | None:
        """Describe the process that holds the lock; None: none does. Changes nothing."""
        if not self.path(name).exists():
            return None
        with contextlib.suppress(OSError):
            if (lock := self._try(name)) is not None:
                lock.release()
                return None
        try:
            owner = parse_json(read_regular(self.path(name), 1000), name)
            return f"process {int(owner['pid'])} on {str(owner['host'])[:100]}"
        except (KeyError, TypeError, ValueError):
            return "a process that did not write its number"

    def _try(self, name: str) -> FileLock | None:
        lock = FileLock(self.path(name), fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock

    def names(self) -> list[str]:
        """Names of all lock files that exist, held or not."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}"))


class Lock:
    """A lock that is held, until it is released or the process ends."""

    def __init__(self, lock: FileLock, path: Path) -> None:
        self._lock, self._path = lock, path

    def release(self) -> None:
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)  # one that waits for this file takes a new one
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
