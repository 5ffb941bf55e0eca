"""A job: one cell with all that a process needs to run it, as one JSON file. And where its process puts what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from harness.plan import Cell
from harness.results.atomic import write_whole
from harness.suite import Suite

PROGRESS, OUTCOME = "progress.jsonl", "outcome"  # what a job's process leaves in its OUTFOLDER


@checked(frozen=True)
class Job:
    """``given``: method -> budget -> key. ``commit`` names the code. ``attempt`` counts the starts of the cell that
    build on each other; ``workers``: cells that may run beside it. ``memory_mib`` bounds each of its processes; the
    place where it runs sets it.
    """

    cell: Cell
    suite: Suite
    given: Mapping[str, Mapping[str, str]]
    commit: str | None = None
    attempt: int = 1
    workers: int = 1
    memory_mib: float | None = None


_ADAPTER = TypeAdapter(Job)


@dataclass(frozen=True)
class Folders:
    """``runs/<suite>/<id>/``: a job's file, log and scratch. What is there is lost without loss of results."""

    root: Path

    @property
    def job(self) -> Path:
        return self.root / "job.json"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def scratch(self) -> Path:
        """The working folder of the process; new for each start."""
        return self.root / "scratch"

    @property
    def work(self) -> Path:
        """Checkpoints: what a method finds again when its cell was killed and is run again."""
        return self.root / "work"

    @property
    def progress(self) -> Path:
        return self.out / PROGRESS

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def outcome(self) -> Path:
        return self.out / OUTCOME


class JobError(ValueError):
    """A job file that is missing or not one of this program."""


def write(job: Job, path: Path) -> None:
    write_whole(path, _ADAPTER.dump_json(job))


def read(path: Path) -> Job:
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise JobError(f"{path}: not a job of this program: {error}") from None
