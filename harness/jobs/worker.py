"""``python -m harness.jobs.worker FOLDER``: the process of a job, under a supervisor of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from harness.jobs import entry, supervisor
from harness.jobs.job import JobFolder


def main(arguments: Sequence[str]) -> NoReturn:
    supervisor.fork_worker()
    launcher = JobFolder(Path(arguments[0])).read().launcher
    if launcher:
        os.execv(sys.executable, [sys.executable, *launcher, "-m", entry.__name__, *arguments])
    entry.main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
