"""A process that does not outlive the one that started it, nor do the helpers it starts."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys

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
