"""``python -m harness.jobs.entry FOLDER``: call a job's function in this very process, and end it.

A launcher starts it several times, once for each process of the job.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from harness.jobs.job import JobFolder


def main(arguments: Sequence[str]) -> NoReturn:
    """Ends the process with the exit code that an interpreter gives.

    Threads that the function left running are not waited for: what it did is complete when it returns.
    """
    code = 1
    try:
        code = _call(JobFolder(Path(arguments[0])))
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        ctypes.CDLL(None).fflush(None)  # what libraries written in C have printed
        os._exit(code)


def _call(folder: JobFolder) -> int:
    job = folder.read()
    if job.limits.memory_mib is not None:
        limit_data(job.limits.memory_mib)
    try:
        raise SystemExit(job.function()(job, folder))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        sys.stderr.write(f"{end.code}\n")
        return 1


def limit_data(mib: float) -> None:
    """Limit the data of this process and of those it starts: an allocation beyond it fails with an error."""
    most = int(mib * 2**20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main(sys.argv[1:])
