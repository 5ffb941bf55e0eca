"""``run_job`` of the stub, and of cells that spoil their process or tell what it looks like."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil

from harness.jobs.job import Job, JobFolder
from harness.sweep import cell_job
from tests.harness.sweep import stub

STATE = {"imported": os.getpid()}


def run_job(job: Job, folder: JobFolder) -> None:
    if sys.argv[1:] != [str(folder.root)]:
        raise RuntimeError(f"{sys.argv} does not end in {folder.root}")
    task = cell_job.task_of(job)
    act = str(task.suite.method(task.cell.method).options.get("act", "ok"))
    if act in ACTS:
        ACTS[act](folder)
    stub.run_job(job, folder)


def spoil(folders: JobFolder) -> None:
    os.environ["SPOILT"] = "1"
    os.environ.pop("OMP_NUM_THREADS", None)
    random.seed(1)
    sys.path.append("/spoilt")
    sys.modules["harness.results.cell_files"] = None  # type: ignore[assignment]
    STATE["spoilt"] = 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(0.3,)).start()
    os.chdir("/")
    sys.setrecursionlimit(400)


def tell(folders: JobFolder) -> None:
    told: dict[str, Any] = {
        "pid": os.getpid(), "server": server(), "group": os.getpgrp(), "session": os.getsid(0), "state": STATE,
        "cwd": str(Path.cwd()), "environment": dict(os.environ), "path": sys.path, "random": random.getrandbits(64),
        "threads": len(list(Path("/proc/self/task").iterdir())), "limit": sys.getrecursionlimit(),
        "open": sorted(int(fd.name) for fd in Path("/proc/self/fd").iterdir() if fd.exists()),
        "handlers": [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD)],
        "temp": os.path.realpath(os.environ["TMPDIR"]), "made": tempfile.gettempdir() == os.environ["TMPDIR"],
        "broken": sys.modules["harness.results.cell_files"] is None,
        "environ": Path("/proc/self/environ").read_text(errors="replace"),
        "tracker": vars(resource_tracker)["_resource_tracker"]._fd,
    }  # fmt: skip
    (folders.root.parent / f"{folders.root.name}.json").write_text(json.dumps(told))


def server() -> int:
    """The fork server: the parent of the supervisor, which is the parent of this process."""
    return psutil.Process(os.getppid()).ppid()


def fail(folders: JobFolder) -> None:
    raise LookupError("out of luck")


def die_late(folders: JobFolder) -> None:
    sys.exit("the last words")


ACTS: dict[str, Any] = {
    "spoil": spoil,
    "tell": tell,
    "fail": fail,
    "words": die_late,
    "segfault": lambda folders: ctypes.string_at(0),
    "kill supervisor": lambda folders: os.kill(os.getppid(), signal.SIGKILL) or time.sleep(30),
    "lose server": lambda folders: os.kill(server(), signal.SIGKILL),
    "stop server": lambda folders: os.kill(server(), signal.SIGSTOP),
}
