"""Imported once by a fork server, before it forks: brings in the modules that jobs would import themselves.

Importing this module does the work, and nothing but a fork server does it: see :mod:`harness.jobs.fork_server`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Mapping

from harness.jobs import processes
from harness.jobs.environment import FORK_FOLDER, PRELOAD


def preload_modules(variables: Mapping[str, str]) -> dict[str, str]:
    """Import the modules; the variables of the environment that their imports set."""
    # A fork server that ends with the process that runs the jobs, even if that was killed, leaves no socket.
    atexit.register(remove_folder)
    signal.signal(signal.SIGTERM, lambda *_: _end(0))
    processes.end_with_parent(os.getppid(), signal.SIGTERM)
    if not sys.flags.safe_path:
        del sys.path[0]  # the working folder of this process; each job puts its own there
    _import(variables[PRELOAD].split(","))
    if why := _unfit():
        sys.stderr.write(f"{why}\n")
        _end(1)
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, every page it shares
    return {name: value for name, value in os.environ.items() if variables.get(name) != value}


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        with contextlib.suppress(Exception, SystemExit):  # the job that needs it says what is wrong
            importlib.import_module(module)


def _unfit() -> str:
    """Reason not to fork from here: threads or CUDA. Threads of libraries, such as OpenBLAS, are allowed."""
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        return f"importing what jobs need started threads ({names})"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "importing what jobs need initialised CUDA"
    return ""


def remove_folder() -> None:
    shutil.rmtree(VARIABLES[FORK_FOLDER], ignore_errors=True)


def _end(code: int) -> None:
    remove_folder()
    sys.stderr.flush()
    os._exit(code)


VARIABLES = dict(os.environ)
CHANGED = preload_modules(VARIABLES)
