"""The worker that a fork server forks for a job: made to look like a fresh interpreter, from its fork to its exit."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from typing import NoReturn

from harness.jobs import supervisor


@dataclass(frozen=True)
class ForkedWorker:
    """Sent to the server as a pickle."""

    root: str
    scratch: str
    environment: dict[str, str]

    def _bootstrap(self, parent: int) -> NoReturn:
        """Called by :mod:`multiprocessing` in the new process; never returns into the loop of the server."""
        try:
            os.setsid()
            _take_pipes(parent)
            self._set_up()
            supervisor.main([self.root])
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(1)

    def _set_up(self) -> None:
        """All that a process is given when it starts.

        Signal handlers and the state of generators are those after the imports, as in a fresh interpreter; Python's own
        `random` is seeded anew by the fork.
        """
        from harness.jobs import preload

        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(self.scratch)
        tempfile.tempdir = None  # what the imports may have asked for belongs to no job
        os.environ.clear()
        os.environ.update({**self.environment, **preload.CHANGED})
        if not sys.flags.safe_path:
            sys.path.insert(0, self.scratch)
        sys.argv = [str(supervisor.__file__), self.root]


def _take_pipes(parent: int) -> None:
    """Standard streams are the pipes that were sent; nothing else of the server or its clients stays open."""
    server, tracker = vars(forkserver)["_forkserver"], vars(resource_tracker)["_resource_tracker"]
    stdin, stdout = server.get_inherited_fds()
    for end, number in ((stdin, 0), (stdout, 1), (stdout, 2)):
        os.dup2(end, number)
    for end in {parent, server._forkserver_alive_fd, tracker._fd, stdin, stdout, sys.stdin.fileno()}:
        os.close(end)
    sys.stdin = os.fdopen(0, closefd=False)
    server._forkserver_alive_fd = server._inherited_fds = tracker._fd = None  # as in a fresh interpreter
