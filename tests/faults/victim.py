"""``python -m tests.faults.victim CELLS DIE_AT TORN LOG WORDS...``: the command line.

CELLS: ``light``, which are those of tests/faults/cell.py, or ``real``. DIE_AT: the file operation below this folder
at which the run is killed; 0: it is not. Tables and plots are left out: they take seconds at the end of every run that
is not killed, and come from points.csv alone.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

from harness import cli
from harness.commands import open_suite, run
from harness.commands.check import Checked
from harness.reports.report import Built
from harness.sweep.pending import Settings
from tests.faults import killing, moments

CELL = "tests.faults.cell:run_job"


def main() -> None:
    light, at, torn, log = sys.argv[1] == "light", int(sys.argv[2]), sys.argv[3] == "torn", Path(sys.argv[4])
    sys.argv[1:] = sys.argv[5:]
    os.environ["EAVIT_RUN"] = moments.name(os.getpid())
    if light:
        run.check_suite = lambda *given, **named: Checked()  # of modules that import no torch
        open_suite.Settings = functools.partial(Settings, entry=CELL)
    run.reports.write_report = lambda *given, **named: Built("", ())
    if at:
        killing.at_operation(at, Path.cwd(), log, "run", torn)
    cli.main()


if __name__ == "__main__":
    main()
