"""Workers forked from the fork server of :mod:`multiprocessing`, which has imported what jobs need.

A forked job has a process, session, pipes, folder and environment of its own, as one in a fresh interpreter has; only
the imports are shared, which cost more than a small job. Every wait for the server has a deadline: one that ended or
does not answer is given up, and jobs start in fresh interpreters.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import IO

from harness.jobs import processes
from harness.jobs.environment import FORK_FOLDER, PRELOAD
from harness.jobs.forked_worker import ForkedWorker

COMMAND = "from multiprocessing.forkserver import main; main({listener}, {alive}, ['harness.jobs.preload'])"
QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # else pyarrow starts a thread when it is imported
PATIENCE, ANSWER = 300.0, 20.0  # seconds until the first job must have been forked, imports included, and each other
SILENCE = 10.0  # seconds after which the end of a job that nobody has reported is believed
PAUSE = 0.005  # seconds between two looks at a process that is waited for


def available() -> bool:
    """Linux only: elsewhere a fork may break system libraries, or the kernel does not end orphans."""
    return sys.platform == "linux" and hasattr(socket, "SCM_RIGHTS")


class ForkServer:
    """A fork server that starts with the first job. ``modules``: imported beforehand, as far as they can be.

    ``warn`` is called when it was given up. It is not started again.
    """

    def __init__(self, modules: Iterable[str], warn: Callable[[str], None], patience: float = PATIENCE) -> None:
        self._modules, self._warn, self._patience = tuple(modules), warn, patience
        self.process: subprocess.Popen[bytes] | None = None
        self.lost = False
        self._log: IO[bytes] | None = None
        self._end = contextlib.ExitStack()

    def start(self, root: Path, scratch: Path, environment: Mapping[str, str]) -> ForkedProcess | None:
        """Fork the worker of the job in ``root``; None where there is no server any more."""
        if self.lost:
            return None
        patience = ANSWER if self.process is not None else self._patience
        try:
            if self.process is None:
                self._launch(environment)
            return self._fork(ForkedWorker(str(root), str(scratch), dict(environment)), patience)
        except (OSError, EOFError) as error:
            self.give_up(self._exit() or str(error))
            return None

    def give_up(self, why: str) -> None:
        """End the server. Jobs that it forked go on."""
        if self.lost:
            return
        self.close()
        if self._log is not None:
            self._log.seek(0)
            why = self._log.read().decode("utf-8", "replace").strip().rpartition("\n")[2] or why
        self._warn(f"the fork server exited; falling back to fresh interpreters (slower): {why}")

    def _exit(self) -> str:
        """Describe how the server ended, if it did."""
        try:
            return "" if self.process is None else f"exit code {self.process.wait(0.1)}"
        except subprocess.TimeoutExpired:
            return ""

    def close(self) -> None:
        if self.process is not None and not self.lost:
            self.process.kill()
            self.process.wait()
            os.close(self._alive)
        self._end.close()
        self.lost = True

    def _launch(self, environment: Mapping[str, str]) -> None:
        self._folder = self._end.enter_context(processes.temporary_folder("fork-"))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # the server writes there as long as it lives
        variables = {name: value for name, value in environment.items() if name != "TMPDIR"}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._folder / "socket"))
            listener.listen()
            alive, self._alive = os.pipe()  # the server ends when nobody holds the other end
            command = COMMAND.format(listener=listener.fileno(), alive=alive)
            self.process = subprocess.Popen(
                [sys.executable, "-c", command],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env={**variables, **QUIET, PRELOAD: ",".join(self._modules), FORK_FOLDER: str(self._folder)},
                pass_fds=[listener.fileno(), alive],
                start_new_session=True,
            )
            os.close(alive)

    def _fork(self, forked: ForkedWorker, patience: float) -> ForkedProcess:
        """Ask for one process, as ``multiprocessing.forkserver.connect_to_new_process`` does, but not for ever."""
        ours: list[int] = []
        theirs: list[int] = []
        for mine, its in ((1, 0), (0, 1), (1, 0), (0, 1)):  # the request, its status; standard input and output
            ends = os.pipe()
            ours.append(ends[mine])
            theirs.append(ends[its])
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(patience)
                client.connect(str(self._folder / "socket"))
                reduction.sendfds(client, [*theirs[:2], self._alive, self._alive, *theirs[2:]])
            while theirs:  # else a pipe whose other end is gone would look alive
                os.close(theirs.pop())
            _send(ours[0], bytes(reduction.ForkingPickler.dumps({})) + bytes(reduction.ForkingPickler.dumps(forked)))
            pid = _receive(ours[1], patience)
            _, status, stdin, stdout = ours
            ours = ours[:1]
            return ForkedProcess(self, pid, status, os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"))
        finally:
            for end in (*ours, *theirs):
                os.close(end)


def _send(end: int, data: bytes) -> None:
    os.set_blocking(end, False)
    if os.write(end, data) < len(data):
        raise OSError("the request is too long")


def _receive(end: int, seconds: float) -> int:
    if not select.select([end], [], [], seconds)[0]:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return int(forkserver.read_signed(end))


class ForkedProcess:
    """A process that a fork server started, as far as it must look like a ``subprocess.Popen``."""

    def __init__(self, server: ForkServer, pid: int, status: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None
        self._server, self._status = server, status
        self._ended: float | None = None  # since when it has ended without a report

    def poll(self) -> int | None:
        """The return code; that of a kill where the server did not tell it."""
        if self.returncode is None:
            with contextlib.suppress(TimeoutError, EOFError):
                self._end(_receive(self._status, 0.0))
        if self.returncode is None and not processes.alive(self.pid):
            self._ended = self._ended or time.monotonic()
            if self._server.lost or time.monotonic() - self._ended > SILENCE:
                self._server.give_up("it does not report the ends of jobs")
                self._end(-signal.SIGKILL)
        if self.returncode is None and self._server.process is not None and self._server.process.poll() is not None:
            self._server.give_up(f"exit code {self._server.process.returncode}")
        return self.returncode

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(PAUSE)
        return code

    def kill(self) -> None:
        processes.send(self.pid, signal.SIGKILL)

    def _end(self, code: int) -> None:
        self.returncode = code
        os.close(self._status)
