"""Functions for calls and jobs that end in every way there is."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from harness.jobs.job import Job, JobFolder


def double(payload: Any) -> Any:
    return payload + payload


def tell(payload: list[str]) -> str:
    path, word = payload
    with Path(path).open("a") as file:
        file.write(f"{word} ")
    if word == "die":
        os._exit(3)
    if word == "hang":
        time.sleep(60)
    return word


def where(payload: Any) -> Any:
    print("a line of the log")
    return {"cwd": str(Path.cwd()), "environment": dict(os.environ), "group": os.getpgrp(), "pid": os.getpid()}


class SpokenError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def end(payload: Any) -> Any:
    ways = {
        "raise": lambda: 1 / 0,
        "unspeakable": lambda: _raise(SpokenError()),
        "base": lambda: _raise(KeyboardInterrupt("stop")),
        "exit": lambda: sys.exit(0),
        "os exit": lambda: os._exit(0),
        "segfault": lambda: ctypes.string_at(0),
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "hang": lambda: time.sleep(60),
        "infinite": lambda: float("inf"),
        "object": lambda: object(),
    }
    return ways[payload]()


def _raise(error: BaseException) -> None:
    raise error


def leave_thread(payload: Any) -> Any:
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "done"


def stop_supervisor(payload: Any) -> Any:
    os.kill(os.getppid(), signal.SIGSTOP)
    Path(payload).write_text(f"{os.getpid()} {os.getppid()}")
    time.sleep(60)


def leave_processes(payload: Any) -> Any:
    """Sixty children in sessions of their own, one orphan of a double fork, and one that ignores signals."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    pids = [subprocess.Popen(["sleep", "60"], start_new_session=True).pid for _ in range(60)]
    pids.append(subprocess.Popen([sys.executable, "-c", code]).pid)
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if (orphan := os.fork()) == 0:
            time.sleep(60)
        os.write(write, str(orphan).encode())
        os._exit(0)
    pids.append(int(os.read(read, 100)))
    return pids


def speak(job: Job, folder: JobFolder) -> None:
    """Entry of a job that prints."""
    ways = {
        "noisy": lambda: sys.stdout.write("x" * 300_000 + "the end\n"),
        "printf": lambda: ctypes.CDLL(None).printf(b"from C\n"),
    }
    ways[job.payload]()


def leave_processes_behind(job: Job, folder: JobFolder) -> None:
    pids = leave_processes(None)
    (folder.work / "pids").write_text(" ".join(map(str, pids)))
    time.sleep(60 if job.payload else 0)


def leave(job: Job, folder: JobFolder) -> int | None:
    """Entry of a job that prints and then ends as its payload says."""
    sys.stdout.write("from Python\n")
    ctypes.CDLL(None).printf(b"from C\n")
    ways = {
        "none": lambda: None,
        "seven": lambda: 7,
        "exit 300": lambda: sys.exit(300),
        "words": lambda: sys.exit("the last words"),
        "raise": lambda: 1 / 0,
        "interrupt": lambda: _raise(KeyboardInterrupt()),
        "thread": lambda: threading.Thread(target=time.sleep, args=(60,)).start(),
        "hoard": lambda: len(b"x" * (500 << 20)),
    }
    return ways[job.payload]()
