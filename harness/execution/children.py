"""One cell in one process of its own: started in a session of its own, watched, ended with all that it started."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.execution.job import OUTCOME, Folders
from harness.jobs.logs import CappedLog, scrubbed
from harness.plan import Cell
from harness.processes.bounds import Watch
from harness.processes.forked import Forked, Nursery
from harness.results.record import Status
from harness.results.store import Damaged, Outcome, StoreError, load

NO_SPACE = "No space left on device"
LAST_WORDS = 2000  # characters of a log in which a process says why it ends
SHORT = 60  # bytes of a path that leave room for what libraries add
_ALLOWED = re.compile(
    "PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_.*|TZ|VIRTUAL_ENV|LD_LIBRARY_PATH|MPLBACKEND|WANDB_MODE"
    "|PYTHON(PATH|UTF8|IOENCODING|NOUSERSITE|SAFEPATH|WARNINGS|FAULTHANDLER|DONTWRITEBYTECODE|PYCACHEPREFIX)"
    "|(EAVIT|HF|XDG|CUDA|NVIDIA|NCCL|CUBLAS|OMP|KMP|MKL|OPENBLAS|MALLOC|PYTORCH)_.*|TORCH_HOME"
    "|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(?i:(https?|ftp|all|no)_proxy)"
)
_SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE", re.IGNORECASE)

Verdict = tuple[Outcome | None, Status, str, str]  # what a cell left; else its status and a reason; the log's tail


@dataclass(frozen=True, slots=True)
class Step:
    """How far a cell is: ``done`` of ``total`` in its ``phase``."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a cell may take: seconds of wall time, MiB of memory and of disk. None: no bound."""

    seconds: float
    memory_mib: float | None = None
    disk_mib: float | None = None


@dataclass
class Child:
    cell: Cell
    folders: Folders
    process: subprocess.Popen[bytes] | Forked
    log: CappedLog
    watch: Watch
    began: float
    limit: float
    temp: Path
    _read: int = 0  # bytes of the progress file that were read
    _broken: tuple[Status, str] | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def peak_mib(self) -> float | None:
        return self.watch.peak_mib

    @property
    def disk_mib(self) -> float | None:
        return self.watch.disk_mib

    def ended(self) -> bool:
        """Whether the process is gone; one that went over a bound is killed here, with all it started."""
        if self.process.poll() is None and self._broken is None:
            if self.seconds > self.limit:
                self._broken = "timeout", f"not done after {self.limit:.0f} s"
            else:
                self._broken = self.watch.look()
            if self._broken is not None:
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
        self.watch.kill(number)

    def verdict(self) -> Verdict:
        """What the process left, else a status with a reason; and the tail of its log. Ends it if it still runs."""
        self.watch.weigh()
        self.kill()
        self.process.wait()
        tail = scrubbed(self.log.close(2.0))
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._tidy()
        if self._broken is not None:
            return None, *self._broken, tail
        try:
            return checked(left(self.folders.out), self.cell), "ok", "", tail
        except Unusable as error:
            return None, error.status, str(error), tail
        except Damaged:
            return (None, *blame(self.process.returncode, tail), tail)
        except StoreError as error:
            return None, "failed", scrubbed(str(error)), tail

    def _tidy(self) -> None:
        """Remove what nobody reads again; checkpoints too where the disk was the fault."""
        full = self._broken is not None and self._broken[1].startswith("disk:")
        for folder in (self.folders.scratch, *([self.folders.work] if full else [])):
            shutil.rmtree(folder, ignore_errors=True)
        if self.temp != self.folders.scratch:
            with contextlib.suppress(OSError):
                self.temp.unlink()


class Unusable(ValueError):
    """A whole outcome that cannot be true."""

    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status = status


def left(out: Path) -> Outcome:
    """The outcome in ``out``; where there is none, the failure that another of the cell's processes left."""
    others = sorted(out.glob(f"*/{OUTCOME}"))
    return load(others[0] if others and not (out / OUTCOME).exists() else out / OUTCOME)


def checked(outcome: Outcome, cell: Cell) -> Outcome:
    """The outcome, after it was seen to be this cell's and its numbers to be possible."""
    record = outcome.record
    if record.cell != cell.id:
        raise Unusable("failed", f"the outcome is that of cell {record.cell}")
    if [point.budget for point in record.points] != list(cell.content["budgets"]):
        raise Unusable("failed", f"the outcome has points for {[point.budget for point in record.points]}")
    for point in record.points:
        where = f"budget {point.budget:g}"
        if point.correct is not None and not 0 <= point.correct <= (point.n or 0):
            raise Unusable("nan", f"{where}: accuracy outside [0, 1]: {point.correct} correct of {point.n}")
        if min(point.macs or 0, point.params or 0) < 0:
            raise Unusable("failed", f"{where}: negative size: {point.macs} MACs, {point.params} parameters")
    return outcome


def blame(code: int, tail: str = "") -> tuple[Status, str]:
    """Status and reason of a process that ended with ``code`` and without a result; ``tail`` of its log."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    end = f"crashed with {name}" if code < 0 else f"exit code {code} without a result"
    if code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP):
        return "killed", f"killed from outside by {name}; memory may have run out"
    last = tail[-LAST_WORDS:]
    if code and NO_SPACE in last:
        return "failed", f"disk: {NO_SPACE}; {end}"
    if code and ("std::bad_alloc" in last or "MemoryError" in last):
        return "oom", f"no more memory was given; {end}"
    return "failed", end


def start(
    cell: Cell,
    folders: Folders,
    command: Sequence[str],
    environment: Mapping[str, str],
    bounds: Bounds,
    nursery: Nursery | None = None,
) -> Child:
    """Start ``command JOBFOLDER OUTFOLDER``, or a child of the nursery in its place, in a scratch folder.

    Standard input is a pipe that nobody writes to: its end tells the child that this process is gone.
    """
    arguments, temp = [str(folders.root), str(folders.out)], _temp(folders.scratch)
    environment = {**environment, "TMPDIR": str(temp)}
    forked = nursery.start(arguments, folders.scratch, environment) if nursery is not None else None
    process = forked or _fresh([*command, *arguments], folders.scratch, environment)
    if process.stdout is None:
        raise RuntimeError("a pipe was asked for and not given")
    watch = Watch(process.pid, folders.root, bounds.memory_mib, bounds.disk_mib)
    log = CappedLog(process.stdout, folders.log)
    return Child(cell, folders, process, log, watch, time.monotonic(), bounds.seconds, temp)


def _temp(scratch: Path) -> Path:
    """A short name for the scratch folder: sockets in a temporary folder may have 107 bytes of path, no more.

    Each scratch folder has one such name: what a killed run left is taken up by the cell's next start and goes with it.
    """
    if len(os.fsencode(scratch)) <= SHORT:
        return scratch
    link = Path(tempfile.gettempdir()) / f"eavit-{hashlib.sha256(os.fsencode(scratch)).hexdigest()[:16]}"
    with contextlib.suppress(OSError):
        link.symlink_to(scratch)
    with contextlib.suppress(OSError):
        if link.readlink() == scratch and link.lstat().st_uid == os.getuid():  # not a trap of another user's
            return link
    return scratch


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
    """What a child sees: bounded threads, a fixed hash seed, and imports that do not hang on the working folder.

    Of ``base`` only what is allowed: what else is set on a machine can change numbers, and may be a secret.
    """
    here = Path(__file__).resolve().parents[2]
    paths = [str(here), str(cwd), *(str(cwd / part) for part in base.get("PYTHONPATH", "").split(os.pathsep) if part)]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
    data = {"EAVIT_DATA": str(cwd / Path(base.get("EAVIT_DATA", "data")).expanduser())}
    kept = {name: value for name, value in base.items() if _allowed(name)}
    return {**kept, **limits, **fixed, **data}


def _allowed(name: str) -> bool:
    return name == "HF_TOKEN" or (_ALLOWED.fullmatch(name) is not None and _SECRET.search(name) is None)
