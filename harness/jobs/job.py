"""A job: what a process of its own is to call, with what, and within which limits. And the folder it works in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from harness.jobs.files import UnreadableError, parse_json, read_regular, write_atomic

End = Literal["ok", "failed", "oom", "timeout", "killed", "skipped"]


class JobError(ValueError):
    """Raised for a job file that is missing or was not written by this program."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Limits of a job: seconds of wall time, MiB of memory and of disk. None: no limit."""

    seconds: float
    memory_mib: float | None = None
    disk_mib: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One call of ``entry``, which is ``module:function``, as ``function(job, folder)`` in a process of its own.

    ``id`` is the name of its folder. ``payload``: any JSON value. ``attempt`` counts the starts that build on each
    other: the first one starts with an empty ``work`` folder. ``slots``: how many jobs may run at once beside it,
    itself included. ``launcher``: words after ``python`` that start several processes, each of which calls ``entry``.
    """

    id: str
    entry: str
    payload: Any
    limits: JobLimits
    title: str = ""
    attempt: int = 1
    threads: int = 1
    slots: int = 1
    launcher: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, text: bytes, where: str) -> Job:
        try:
            raw = parse_json(text, where)
            return cls(**{**raw, "limits": JobLimits(**raw["limits"]), "launcher": tuple(raw["launcher"])})
        except UnreadableError as error:
            raise JobError(str(error)) from None
        except (KeyError, TypeError) as error:
            raise JobError(f"{where}: not a job of this program: {error}") from None

    def function(self) -> Callable[[Job, JobFolder], int | None]:
        return entry_function(self.entry)


def entry_function(entry: str) -> Callable[..., Any]:
    """The function that ``module:function`` names."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]  # whatever the module holds there


class JobFolder:
    """The folder of a job: its file, log, result and scratch space. A lost folder costs time and no results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.job, self.log = root / "job.json", root / "log.txt"
        self.scratch = root / "scratch"  # the working folder of the process; empty at each start
        self.work = root / "work"  # what a job that was ended from outside finds again, such as checkpoints
        self.out = root / "out"
        self.progress = self.out / "progress.jsonl"  # one JSON object a line: phase, done, total
        # A file or folder that is written under another name and renamed when complete: without it a job failed.
        self.result = self.out / "result"

    def write(self, job: Job) -> None:
        write_atomic(self.job, job.encode())

    def read(self) -> Job:
        try:
            return Job.decode(read_regular(self.job), str(self.job))
        except UnreadableError as error:
            raise JobError(str(error)) from None


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Progress of a job: ``done`` of ``total`` in its ``phase``."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Ending:
    """End of a job and of its log. ``ok``: it left a result, which has not been read yet."""

    status: End
    reason: str = ""
    log: str = ""
