"""``python -m harness.jobs.supervisor FOLDER``: the process of a job, and its parent, which leaves nothing alive of all
that the job started.

The supervisor is a child subreaper: whatever the job forks stays among its descendants. It ends them when the job's
process has ended, and when its own standard input, a pipe to the process that runs the jobs, is closed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from harness.jobs import entry, processes
from harness.jobs.job import JobFolder

SIGNALS = (signal.SIGCHLD, signal.SIGTERM)


def main(arguments: Sequence[str]) -> NoReturn:
    """Supervise a worker that calls the job's function, by its launcher if it has one."""
    fork_worker()
    launcher = JobFolder(Path(arguments[0])).read().launcher
    if launcher:
        os.execv(sys.executable, [sys.executable, *launcher, "-m", entry.__name__, *arguments])
    entry.main(arguments)


def fork_worker() -> None:
    """Fork a worker process, in a session of its own, and supervise it. Returns in the worker only.

    The supervisor ends as the worker did, with its exit code or by its signal, once no descendant is left. SIGTERM is
    passed on to the worker's process group.
    """
    processes.become_subreaper()
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    supervisor = os.getpid()
    worker = os.fork()
    if worker:
        _supervise(worker, read)
    signal.set_wakeup_fd(wakeup)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.setsid()
    processes.end_with_parent(supervisor)
    for end in (read, write):
        os.close(end)
    if _is_pipe(0):  # the supervisor alone holds it
        _redirect((0,))


def _supervise(worker: int, woken: int) -> NoReturn:
    status = signal.SIGKILL.value  # as waitpid would tell of a process that was killed
    try:
        _redirect((1, 2))  # the log ends with the processes that write it
        status = _wait(worker, woken)
    finally:
        _end(worker)
        _exit_as(status)


def _wait(worker: int, woken: int) -> int:
    """The status of the worker, as waitpid gives it, once it has ended or standard input was closed."""
    watched = [woken, *([0] if _is_pipe(0) else [])]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if 0 in ready and not os.read(0, 4096):
            return signal.SIGKILL.value
        if woken in ready and signal.SIGTERM in os.read(woken, 4096):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker, signal.SIGTERM)
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == worker:
                return ended[1]


def _end(worker: int) -> None:
    """Kill and reap until there is no child. Orphans of a killed child become children of this process."""
    with contextlib.suppress(OSError):
        os.killpg(worker, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            for pid in processes.children(os.getpid()):
                processes.send(pid, signal.SIGKILL)
            time.sleep(processes.PAUSE)


def _exit_as(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _is_pipe(file: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(file).st_mode)
    except OSError:
        return False


def _redirect(files: tuple[int, ...]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in files:
        os.dup2(nothing, file)
    os.close(nothing)


if __name__ == "__main__":
    main(sys.argv[1:])
