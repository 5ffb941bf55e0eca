"""Processes: whether one is alive, what it started, and how all of that is ended."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
PAUSE = 0.002  # seconds between two rounds of killing


def alive(pid: int) -> bool:
    """Return whether a process of this machine runs; one that has ended and was not waited for does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def children(pid: int, recursive: bool = False) -> list[int]:
    """Ids of the living processes that ``pid`` started; ``recursive``: and of those that these started."""
    import psutil

    try:
        return [one.pid for one in psutil.Process(pid).children(recursive) if alive(one.pid)]
    except psutil.Error:
        return []


def kill_descendants(pid: int, seconds: float) -> None:
    """Kill all processes that came from ``pid``, again and again until none is left or the time is over."""
    until = time.monotonic() + seconds
    while (left := children(pid, recursive=True)) and time.monotonic() < until:
        for one in left:
            send(one, signal.SIGKILL)
        time.sleep(PAUSE)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder in the temporary one, removed when this is left; those of processes that were killed go too."""
    temp, start = Path(tempfile.gettempdir()), f"{prefix}{socket.gethostname()}-"
    for left in temp.glob(f"{glob.escape(start)}*"):
        owner = left.name.removeprefix(start).partition("-")[0]
        if owner.isdigit() and not alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{start}{os.getpid()}-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def become_subreaper() -> None:
    """Make this process the parent of orphans among its descendants (Linux; nothing happens elsewhere)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to signal this process when ``parent`` ends (Linux); end at once if it has ended already."""
    _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
