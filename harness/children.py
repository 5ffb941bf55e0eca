"""One cell in one process of its own: started in a session of its own, watched, ended with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.forked import Forked, Nursery
from harness.job import Folders
from harness.logs import CappedLog, scrubbed
from harness.plan import Cell
from harness.record import Status
from harness.store import Damaged, Outcome, StoreError, load


@dataclass(frozen=True, slots=True)
class Step:
    """How far a cell is: ``done`` of ``total`` in its ``phase``."""

    phase: str
    done: int
    total: int


@dataclass
class Child:
    cell: Cell
    folders: Folders
    process: subprocess.Popen[bytes] | Forked
    log: CappedLog
    began: float
    deadline: float
    _read: int = 0  # bytes of the progress file that were read
    _late: bool = field(default=False)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def ended(self) -> bool:
        """Whether the process is gone; one past its deadline is killed here, with its whole group."""
        if self.process.poll() is None and time.monotonic() > self.deadline:
            self._late = True
            self.kill()
            self.process.wait()
        return self.process.poll() is not None

    def step(self) -> Step | None:
        """The newest whole line of the progress file, if there is a new one."""
        try:
            with self.folders.progress.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except OSError:
            return None
        whole, newline, _ = fresh.rpartition(b"\n")
        self._read += len(whole) + len(newline)
        try:
            told = json.loads(whole.rpartition(b"\n")[2])
            return Step(str(told["phase"]), int(told["done"]), int(told["total"]))
        except (ValueError, KeyError, TypeError):
            return None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        # The group is the child's own session, so that helpers it started go with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def verdict(self) -> tuple[Outcome | None, Status, str, str]:
        """After the end: what the process left, else a status with a reason; and the tail of its log."""
        self.kill()
        tail = scrubbed(self.log.close(2.0))
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self._late:
            return None, "timeout", f"not done after {self.deadline - self.began:.0f} s", tail
        code = self.process.returncode
        try:
            return load(self.folders.outcome), "ok", "", tail
        except Damaged:
            return (None, *blame(code), tail)
        except StoreError as error:
            return None, "failed", scrubbed(str(error)), tail


def blame(code: int) -> tuple[Status, str]:
    """Status and reason of a process that ended with ``code`` and without a result."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP):
        return "killed", f"killed from outside by {name}; memory may have run out"
    if code < 0:
        return "failed", f"crashed with {name}"
    return "failed", f"exit code {code} without a result"


def start(
    cell: Cell,
    folders: Folders,
    command: Sequence[str],
    environment: Mapping[str, str],
    limit: float,
    nursery: Nursery | None = None,
) -> Child:
    """Start ``command JOBFOLDER OUTFOLDER``, or a child of the nursery in its place, in a scratch folder.

    It is killed after ``limit`` seconds. Standard input is a pipe that nobody writes to: its end tells the child that
    this process is gone.
    """
    arguments = [str(folders.root), str(folders.out)]
    forked = nursery.start(arguments, folders.scratch, environment) if nursery is not None else None
    process = forked or _fresh([*command, *arguments], folders.scratch, environment)
    if process.stdout is None:
        raise RuntimeError("a pipe was asked for and not given")
    began = time.monotonic()
    return Child(cell, folders, process, CappedLog(process.stdout, folders.log), began, began + limit)


def _fresh(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
    )


def environment(threads: int, base: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """What a child sees: bounded threads, a fixed hash seed, and imports that do not hang on the working folder."""
    here = Path(__file__).resolve().parent.parent
    paths = [str(here), str(cwd), *(str(cwd / part) for part in base.get("PYTHONPATH", "").split(os.pathsep) if part)]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
    data = {"EAVIT_DATA": str(cwd / Path(base.get("EAVIT_DATA", "data")).expanduser())}
    return {**base, **limits, **fixed, **data}
