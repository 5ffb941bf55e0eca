"""Interface between a scheduler and the place where jobs run: this machine, a cluster, or something else."""

from __future__ import annotations

from typing import Protocol

from harness.jobs.job import Ending, Job, JobFolder, JobProgress


class RunningJob(Protocol):
    """A job that was started. ``peak_mib`` and ``disk_mib``: the most that its processes and its folder took so far."""

    @property
    def job(self) -> Job: ...
    @property
    def folder(self) -> JobFolder: ...
    @property
    def seconds(self) -> float: ...
    @property
    def peak_mib(self) -> float | None: ...
    @property
    def disk_mib(self) -> float | None: ...
    def ended(self) -> bool: ...
    def progress(self) -> JobProgress | None: ...
    def ask_to_end(self) -> None: ...
    def kill(self) -> None: ...
    def finish(self) -> Ending:
        """Return how the job ended; end it if it still runs. Its result, if it left one, is in its folder."""


class Executor(Protocol):
    @property
    def slots(self) -> int:
        """Number of jobs that can run at once now; that of a cluster may change."""

    def start(self, job: Job) -> RunningJob:
        """Raise OSError where it cannot be started, such as on a full disk."""

    def close(self) -> None: ...
