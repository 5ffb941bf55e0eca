"""The engine's end of a nursery: children forked from :mod:`harness.processes.nursery`, seen as if started here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PATIENCE = 300.0  # seconds until a child must have been started, imports from a cold disk included
QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # else pyarrow starts a thread when it is imported


def available() -> bool:
    """Linux alone: elsewhere a fork may break system libraries, or the kernel does not end orphans."""
    able = sys.platform == "linux" and hasattr(os, "fork") and hasattr(socket, "SCM_RIGHTS")
    return able and os.environ.get("EAVIT_NURSERY") != "0"


class Refused(OSError):
    """No child could be forked just now."""


class Nursery:
    """Children of ``entry``'s ``main``; the process starts with the first of them. Lost once, it stays lost.

    ``modules``: imported beforehand if they can be; a cell tells itself what it cannot import.
    """

    def __init__(
        self, entry: str, modules: Iterable[str], warn: Callable[[str], None], patience: float | None = None
    ) -> None:
        self.arguments, self._warn, self._patience = [entry, *modules], warn, patience or PATIENCE
        self.process: subprocess.Popen[bytes] | None = None
        self.lost = False
        self._codes: dict[int, int] = {}
        self._running: set[int] = set()
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # the process writes there as long as it lives

    def start(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Forked | None:
        """A child that runs ``main(arguments)`` in ``folder``; None where there is no nursery any more."""
        if self.lost:
            return None
        pipes = [*os.pipe(), *os.pipe()]
        near, far = [pipes[1], pipes[2]], [pipes[0], pipes[3]]  # stdin's write end, stdout's read end; the child's
        try:
            self._ensure(folder, environment)
            request = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)}
            self._ours.settimeout(self._patience)
            socket.send_fds(self._ours, [json.dumps(request).encode()], far)
            forked = Forked(self, self._started(), os.fdopen(near.pop(0), "wb"), os.fdopen(near.pop(0), "rb"))
        except Refused:
            return None
        except OSError as error:
            self._lose(error)
            return None
        finally:
            for end in (*near, *far):
                os.close(end)
        return forked

    def code(self, pid: int, wait: bool) -> int | None:
        """How the child ended; None while it runs. One that the nursery can no longer tell of is killed."""
        while pid not in self._codes and not self.lost:
            try:
                self._hear(None if wait else 0.0)
            except BlockingIOError:
                return None
            except OSError as error:
                self._lose(error)
        if pid not in self._codes:  # the kernel has killed it, but not the helpers of its group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            return -signal.SIGKILL
        return self._codes.pop(pid)  # told once: the kernel may give the number again

    def close(self) -> None:
        """End the process. Whoever still has children kills them first."""
        self.lost = True
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for thing in (self._ours, self._theirs, self._said):
            thing.close()

    def _ensure(self, folder: Path, environment: Mapping[str, str]) -> None:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "harness.processes.nursery", str(self._theirs.fileno()), *self.arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                env={**{name: value for name, value in environment.items() if name != "TMPDIR"}, **QUIET},
                pass_fds=[self._theirs.fileno()],
                start_new_session=True,
            )
            self._theirs.close()

    def _started(self) -> int:
        """The child that was asked for. Ends of others may be told before."""
        until = time.monotonic() + self._patience
        while True:
            told = self._hear(max(0.01, until - time.monotonic()))
            if "refused" in told:
                raise Refused(told["refused"])
            if "started" in told:
                return int(told["started"])

    def _hear(self, seconds: float | None) -> dict[str, Any]:
        self._ours.settimeout(seconds)
        message = self._ours.recv(4096)
        if not message:
            raise ConnectionResetError("it ended")
        told: dict[str, Any] = json.loads(message)
        if "started" in told:
            self._running.add(told["started"])
        elif "ended" in told:
            self._codes[told["ended"]] = told["code"]
            if told["ended"] not in self._running:  # killed in its first moment
                told["started"] = told["ended"]
            self._running.discard(told["ended"])
        return told

    def _lose(self, error: OSError) -> None:
        why = str(error) or type(error).__name__
        if self.process is not None:
            if isinstance(error, ConnectionError):  # it ended, or is about to
                with contextlib.suppress(subprocess.TimeoutExpired):
                    why = f"exit code {self.process.wait(1.0)}"
            self.process.kill()
            self.process.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        self.close()
        self._warn(f"cells start one by one, which is slower, for their nursery is lost: {said or why}")


class Forked:
    """A child of the nursery, as far as it must look like a ``subprocess.Popen``."""

    def __init__(self, nursery: Nursery, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid, self.stdin, self.stdout, self._nursery = pid, stdin, stdout, nursery
        self.returncode: int | Any = None  # as typed for Popen

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.code(self.pid, wait=False)
        return self.returncode

    def wait(self) -> int:
        while self.returncode is None:
            self.returncode = self._nursery.code(self.pid, wait=True)
        return self.returncode
