"""A process of its own that takes locks, told what to do by lines on its standard input."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.jobs.locks import Lock, Locks

ROOT = Path(__file__).resolve().parents[2]


class LockHolder:
    """The process, seen from a test. ``ask`` gives the answer to one line: take, race or release, and a name."""

    def __init__(self, folder: Path) -> None:
        command, where = [sys.executable, __file__, str(folder)], os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=where)

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.answer()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def take(locks: Locks, held: dict[str, Lock], name: str) -> str:
    lock = locks.acquire(name)
    if lock is not None:
        held[name] = lock
    return "yes" if lock is not None else "no"


def race(locks: Locks, held: dict[str, Lock], name_and_moment: str) -> str:
    """The monotonic clock is one for all processes of a machine: they start together."""
    name, _, moment = name_and_moment.partition("@")
    time.sleep(max(0.0, float(moment) - time.monotonic()))
    return take(locks, held, name)


def release(held: dict[str, Lock], name: str) -> str:
    held.pop(name).release()
    return "released"


def main(folder: Path) -> None:
    locks, held = Locks(folder), dict[str, Lock]()
    acts: dict[str, Callable[[str], str]] = {
        "take": lambda name: take(locks, held, name),
        "race": lambda name: race(locks, held, name),
        "release": lambda name: release(held, name),
    }
    for line in sys.stdin:
        act, name = line.split()
        sys.stdout.write(acts[act](name) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
