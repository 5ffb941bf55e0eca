"""``main`` for a nursery: the stub, and cells that spoil their process or tell what it looks like."""

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
from pathlib import Path
from typing import Any

from harness.execution import job
from tests.harness import stub

STATE = {"imported": os.getpid()}


def main(arguments: list[str]) -> int:
    if sys.argv[1:] != arguments:
        raise RuntimeError(f"{sys.argv} does not end in {arguments}")
    folders = job.Folders(Path(arguments[0]))
    task = job.read(folders.job)
    act = str(task.suite.method(task.cell.method).options.get("act", "ok"))
    if act in ACTS:
        ACTS[act](folders)
    stub.main()
    return 0


def spoil(folders: job.Folders) -> None:
    os.environ["SPOILT"] = "1"
    os.environ.pop("OMP_NUM_THREADS", None)
    random.seed(1)
    sys.path.append("/spoilt")
    sys.modules["harness.results.store"] = None  # type: ignore[assignment]
    STATE["spoilt"] = 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(0.3,)).start()
    os.chdir("/")
    sys.setrecursionlimit(400)


def tell(folders: job.Folders) -> None:
    told: dict[str, Any] = {
        "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgrp(), "session": os.getsid(0), "state": STATE,
        "cwd": str(Path.cwd()), "environment": dict(os.environ), "path": sys.path, "random": random.getrandbits(64),
        "threads": len(list(Path("/proc/self/task").iterdir())), "limit": sys.getrecursionlimit(),
        "open": sorted(int(fd.name) for fd in Path("/proc/self/fd").iterdir() if fd.exists()),
        "handlers": [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD)],
        "temp": os.path.realpath(os.environ["TMPDIR"]), "made": tempfile.gettempdir() == os.environ["TMPDIR"],
        "broken": sys.modules["harness.results.store"] is None,
    }  # fmt: skip
    (folders.root.parent / f"{folders.root.name}.json").write_text(json.dumps(told))


def fail(folders: job.Folders) -> None:
    raise LookupError("out of luck")


def die_late(folders: job.Folders) -> None:
    sys.exit("the last words")


ACTS: dict[str, Any] = {
    "spoil": spoil,
    "tell": tell,
    "fail": fail,
    "words": die_late,
    "segfault": lambda folders: ctypes.string_at(0),
    "printf": lambda folders: ctypes.CDLL(None).printf(b"from C\n"),
    "noisy": lambda folders: sys.stdout.write("x" * 300_000 + "the end\n"),
    "orphan": lambda folders: os.kill(os.getppid(), signal.SIGKILL) or time.sleep(30),
}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
