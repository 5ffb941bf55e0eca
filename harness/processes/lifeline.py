"""How processes end: not later than the one that started them, and not in the middle of what must be whole."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """End this process and its whole group when the engine is gone, even by SIGKILL.

    Standard input is a pipe that only the engine can write to, so its end is the engine's end. A sentinel process
    waits for it: a thread could not while a library holds the interpreter. The kernel's own signal is quicker, but
    reaches this process alone.
    """
    if os.getpgrp() != os.getpid() or not stat.S_ISFIFO(os.fstat(0).st_mode):
        return  # started by hand: there is no group of its own to end
    nothing = os.open(os.devnull, os.O_RDWR)
    if os.fork() == 0:
        _watch(nothing)
    os.dup2(nothing, 0)
    os.close(nothing)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(nothing: int) -> None:
    """Never returns. Holds no end of the log, so that the log ends with the process that writes it."""
    try:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        while os.read(0, 4096):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)
    finally:
        os._exit(0)


@contextmanager
def unhurried() -> Iterator[None]:
    """An interrupt is heard when this is left, so that what is in it is done as a whole; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    kept = {number: handler for number, handler in found.items() if callable(handler)}
    heard: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if len(heard) > 1:
            raise KeyboardInterrupt

    try:
        for number in kept:
            signal.signal(number, later)
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    if heard:
        raise KeyboardInterrupt
