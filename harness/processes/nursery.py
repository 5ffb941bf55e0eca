"""``python -m harness.processes.nursery``: imports once what cells need and forks a child for each of them.

Isolation stays as it is with a fresh interpreter: a cell has a process, session, pipes, folder and environment of its
own, and what it changes or breaks ends with it. Only the imports are shared; they cost more than a small cell does.

At the other end of its socket is :mod:`harness.processes.forked`. The socket keeps messages apart. Engine: a request
(JSON) with the child's two ends of its pipes. Nursery: ``{"started": pid}``, told by the child itself once it can be
killed as a group, and ``{"ended": pid, "code": n}`` with n as in subprocess. When the engine is gone the nursery is
killed by the kernel or sees the socket's end; when the nursery is gone its children are killed by the kernel.

This module imports no torch. Its process does, but by import strings at run time, the way plugins are found.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from harness.processes.lifeline import PR_SET_PDEATHSIG

LARGEST = 1 << 20  # bytes of a request; an environment is a few KiB
PAUSE = 0.02  # seconds between two looks at running children


class Entry:
    """What children run: ``main`` of a module, with what the imports did to the environment."""

    def __init__(self, name: str, modules: Iterable[str]) -> None:
        before = dict(os.environ)
        self.module = importlib.import_module(name)
        for extra in modules:
            with contextlib.suppress(Exception, SystemExit):  # the cell that needs it says what is wrong
                importlib.import_module(extra)
        self.left = {key: value for key, value in os.environ.items() if before.get(key) != value}


def main(arguments: Sequence[str]) -> int:
    """``FD ENTRY MODULE...``: the socket that was inherited, and what to import."""
    _die_with(os.getppid())
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of the first cell; each child puts its own there
    requests = socket.socket(fileno=int(arguments[0]))
    requests.set_inheritable(False)
    entry = Entry(arguments[1], arguments[2:])
    if why := _unfit():
        sys.stderr.write(f"{why}\n")
        return 1
    os.chdir("/")
    gc.collect()
    gc.freeze()  # collecting in a child would touch, and so copy, every page it shares
    _serve(requests, entry)
    return 0


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent is gone, be it by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _unfit() -> str:
    """Why children forked from here would not be as good as fresh ones.

    Threads of libraries are no reason: OpenBLAS, with more than one thread, takes its own across a fork.
    """
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        return f"importing what cells need started threads ({names})"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "importing what cells need initialised CUDA"
    return ""


def _serve(requests: socket.socket, entry: Entry) -> None:
    """Until the engine is gone; then the children go too."""
    children: set[int] = set()
    while True:
        requests.settimeout(PAUSE if children else None)
        with contextlib.suppress(TimeoutError):
            message, ends, _, _ = socket.recv_fds(requests, LARGEST, 2)
            if not message:
                break
            children |= _fork(requests, json.loads(message), ends, entry)
        for pid in [pid for pid in children if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)]:
            children.remove(pid)
            _tell(requests, {"ended": pid, "code": _reap(pid)})
    for pid in children:
        os.killpg(pid, signal.SIGKILL)


def _reap(pid: int) -> int:
    """The return code; before the number is free again, all that is left of the group is ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _tell(requests: socket.socket, what: Mapping[str, Any]) -> None:
    requests.settimeout(None)
    requests.send(json.dumps(what).encode())


def _fork(requests: socket.socket, request: Mapping[str, Any], ends: Sequence[int], entry: Entry) -> set[int]:
    nursery = os.getpid()
    _flush()  # or every child would write it again
    try:
        pid = os.fork()
    except OSError as error:
        pid = -1
        _tell(requests, {"refused": str(error)})
    if pid == 0:
        _child(requests, request, ends, entry, nursery)
    for end in ends:
        os.close(end)
    return {pid} - {-1}


def _child(
    requests: socket.socket, request: Mapping[str, Any], ends: Sequence[int], entry: Entry, nursery: int
) -> NoReturn:
    """A cell, from fork to exit. Never returns into the nursery's loop."""
    code = 1
    try:
        os.setsid()
        _die_with(nursery)
        _tell(requests, {"started": os.getpid()})
        requests.close()
        _furnish(request, ends, entry)
        code = _run(entry, request["arguments"])
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _furnish(request: Mapping[str, Any], ends: Sequence[int], entry: Entry) -> None:
    """All that a process is given when it starts.

    Signal handlers and the state of generators are those after the imports, as in a fresh interpreter; Python's own
    `random` is seeded anew by the fork.
    """
    for end, numbers in zip(ends, ((0,), (1, 2)), strict=True):
        for number in numbers:
            os.dup2(end, number)
        os.close(end)
    os.chdir(request["folder"])
    tempfile.tempdir = None  # what the imports may have asked for is no cell's
    os.environ.clear()
    os.environ.update({**request["environment"], **entry.left})
    if not sys.flags.safe_path:
        sys.path.insert(0, request["folder"])
    sys.argv = [str(entry.module.__file__), *request["arguments"]]


def _run(entry: Entry, arguments: Sequence[str]) -> int:
    """The exit code that a fresh interpreter would give, with the same things done at its end."""
    try:
        code = _judge(lambda: entry.module.main(list(arguments)))
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        return code
    finally:
        _flush()


def _judge(run: Callable[[], object]) -> int:
    try:
        raise SystemExit(run())
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return (left.code or 0) & 0xFF
        sys.stderr.write(f"{left.code}\n")
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            _flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)  # what libraries written in C have printed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
