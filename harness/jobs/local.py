"""Jobs on this machine: each a process of its own, forked from a server or in a fresh interpreter."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.jobs import environment, limits, processes
from harness.jobs.environment import NO_PROJECT, ProjectVariables
from harness.jobs.files import LIMIT, UnreadableError, parse_json, read_regular
from harness.jobs.fork_server import ForkedProcess, ForkServer
from harness.jobs.job import End, Ending, Job, JobFolder, JobProgress
from harness.jobs.logs import CappedLog, scrubbed

GRACE = 5.0  # seconds in which a supervisor must have ended what it started
LINK = "jobs-"  # how the short names of scratch folders begin
NO_SPACE = "No space left on device"
LAST_WORDS = 2000  # characters of a log in which a process says why it ends
NEWEST = 64 * 1024  # bytes of a progress file that are looked at
SHORT = 60  # bytes of a path that leave space for what libraries add


class LocalExecutor:
    """Runs jobs in ``root``, a folder for each, ``slots`` of them at once.

    ``server`` forks their processes; None: each job is a fresh interpreter, as those with a launcher always are.
    ``project``: further variables of their environment.
    """

    def __init__(
        self, root: Path, slots: int, *, server: ForkServer | None = None, project: ProjectVariables = NO_PROJECT
    ) -> None:
        self.root, self.slots, self.server, self._project = root, slots, server, project

    def start(self, job: Job) -> LocalJob:
        folder = JobFolder((self.root / job.id).resolve())
        for path in (folder.scratch, folder.out, *([folder.work] if job.attempt == 1 else [])):
            shutil.rmtree(path, ignore_errors=True)
        for path in (folder.scratch, folder.out, folder.work):
            path.mkdir(parents=True, exist_ok=True)
        memory = job.limits.memory_mib or limits.machine_mib()
        job = replace(job, slots=self.slots, limits=replace(job.limits, memory_mib=memory))
        folder.write(job)
        temp = short_name(folder.scratch)
        variables = environment.clean(os.environ, Path.cwd(), job.threads, self._project) | {"TMPDIR": str(temp)}
        server = self.server if not job.launcher else None
        forked = server.start(folder.root, folder.scratch, variables) if server is not None else None
        return LocalJob(job, folder, forked or start_fresh(folder.root, folder.scratch, variables), temp)

    def close(self) -> None:
        """Stop the fork server; call it when no job that was started here runs any more."""
        if self.server is not None:
            self.server.close()
        remove_dangling_names()


def start_fresh(root: Path, scratch: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Standard input is a pipe that nobody writes to: its end tells the supervisor that this process is gone."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.jobs.supervisor", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=scratch,
        env=dict(variables),
        start_new_session=True,
    )


def short_name(scratch: Path) -> Path:
    """A short name of the scratch folder: the path of a socket may have 107 bytes, no more."""
    if len(os.fsencode(scratch)) <= SHORT:
        return scratch
    link = Path(tempfile.gettempdir()) / f"{_link_prefix()}{secrets.token_hex(4)}"
    try:
        link.symlink_to(scratch)
    except OSError:
        return scratch
    return link


def remove_dangling_names() -> None:
    """Remove the short names that killed runs of this machine left: one that is in use leads to a folder."""
    for link in Path(tempfile.gettempdir()).glob(f"{_link_prefix()}*"):
        with contextlib.suppress(OSError):
            if link.is_symlink() and link.lstat().st_uid == os.getuid() and not link.exists():
                link.unlink()


def _link_prefix() -> str:
    """A folder of another machine may be out of sight here though that machine uses it."""
    return f"{LINK}{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]}-"


class LocalJob:
    """A job that was started on this machine."""

    def __init__(
        self, job: Job, folder: JobFolder, process: subprocess.Popen[bytes] | ForkedProcess, temp: Path
    ) -> None:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("a pipe was asked for and not given")
        self.job, self.folder, self.process = job, folder, process
        self._stdin, self._temp, self._began = process.stdin, temp, time.monotonic()
        self._log = CappedLog(process.stdout, folder.log)
        self._monitor = limits.UsageMonitor(process.pid, folder.root, job.limits)
        self._read = 0  # bytes of the progress file that were read
        self._exceeded: limits.Exceeded | tuple[End, str] | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def peak_mib(self) -> float | None:
        return self._monitor.peak_mib

    @property
    def disk_mib(self) -> float | None:
        return self._monitor.disk_mib

    def ended(self) -> bool:
        """Return whether the process has ended; one that exceeds a limit is ended here, with all that it started."""
        if self.process.poll() is None and self._exceeded is None:
            if self.seconds > self.job.limits.seconds:
                self._exceeded = "timeout", f"not done after {self.job.limits.seconds:.0f} s"
            else:
                self._exceeded = self._monitor.check()
            if self._exceeded is not None:
                self._end()
        return self.process.poll() is not None

    def progress(self) -> JobProgress | None:
        """The newest complete line of the progress file, if there is a new one."""
        self._read, progress = read_progress(self.folder.progress, self._read)
        return progress

    def ask_to_end(self) -> None:
        """SIGTERM for the processes of the job."""
        if self.process.poll() is None:
            processes.send(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Let the supervisor kill the job and all that came from it. Does not wait."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def finish(self) -> Ending:
        """Return how the job ended; end it if it still runs. None of its processes is alive afterwards."""
        self._monitor.check_disk()
        self._end()
        tail = scrubbed(self._log.close(2.0))
        self._tidy()
        if self._exceeded is not None:
            return Ending(*self._exceeded, tail)
        if self._left_result():
            return Ending("ok", log=tail)
        code = self.process.poll()
        return Ending(*describe_exit(-signal.SIGKILL if code is None else code, tail), tail)

    def _left_result(self) -> bool:
        """Return whether there is a result: where a job has several processes, that of any of them."""
        others = sorted(self.folder.out.glob(f"*/{self.folder.result.name}")) if self.job.launcher else []
        if others and not os.path.lexists(self.folder.result):
            others[0].rename(self.folder.result)
        return os.path.lexists(self.folder.result)

    def _end(self) -> None:
        self.kill()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:  # something has stopped the supervisor
            processes.kill_descendants(self.process.pid, GRACE)
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a device: nothing can be done
                self.process.wait(GRACE)
        self._monitor.kill_seen()

    def _tidy(self) -> None:
        """Remove what nobody reads again; checkpoints too where they filled the disk."""
        full = self._exceeded is not None and self._exceeded[1].startswith("disk:")
        for path in (self.folder.scratch, *([self.folder.work] if full else [])):
            shutil.rmtree(path, ignore_errors=True)
        if self._temp != self.folder.scratch:
            with contextlib.suppress(OSError):
                self._temp.unlink()


def describe_exit(code: int, log: str = "") -> tuple[End, str]:
    """Status and reason of a process that ended with ``code``, negative for a signal, and without a result."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    end = f"crashed with {name}" if code < 0 else f"exit code {code} without a result"
    if code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP):
        return "killed", f"killed from outside by {name}; memory may have run out"
    last = log[-LAST_WORDS:]
    if code and NO_SPACE in last:
        return "failed", f"disk: {NO_SPACE}; {end}"
    if code and ("std::bad_alloc" in last or "MemoryError" in last):
        return "oom", f"memory could not be allocated; {end}"
    return "failed", end


def read_progress(path: Path, start: int) -> tuple[int, JobProgress | None]:
    """Offset of the next complete line, and the newest line from ``start`` on, if it reports progress.

    The file may hold anything: what cannot be read is no progress.
    """
    try:
        size = path.lstat().st_size
        start = max(start, size - NEWEST)
        lines, newline, _ = read_regular(path, LIMIT, start=start).rpartition(b"\n")
    except (OSError, UnreadableError):
        return start, None
    following = start + len(lines) + len(newline)
    try:
        raw = parse_json(lines.rpartition(b"\n")[2], str(path))
        return following, JobProgress(str(raw["phase"])[:200], int(raw["done"]), int(raw["total"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return following, None
