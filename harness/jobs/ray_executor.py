"""Jobs on a Ray cluster: one task a job, its result brought back as bytes; what is lost with a node starts elsewhere.

Ray's own retries are off.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.jobs import ray_node
from harness.jobs.environment import NO_PROJECT, ProjectVariables
from harness.jobs.job import Ending, Job, JobFolder, JobProgress
from harness.jobs.logs import scrubbed
from harness.jobs.ray_connection import ClusterError, connect
from harness.jobs.ray_node import NodeRequest

STARTS = 5  # of one job that nodes were lost with; then it is `killed`
FRESH = 5.0  # seconds for which the count of slots is believed
PATIENCE = 600.0  # seconds without a node that can hold a job, after which a run gives up
ANSWER = 20.0  # seconds for a report of a node to arrive, and for one that is asked to end a job
LATE = 120.0  # seconds past a job's own limit after which its node is not waited for
PAUSE = 0.05  # seconds between two looks at a node that was asked to end a job
_ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b|\b[0-9a-f]{40,}\b")


class RayExecutor:
    """Runs jobs on the nodes of a Ray cluster, and brings their results to ``root``. One at a time in a process.

    ``address``: HOST:PORT of the head, ``auto`` for the cluster this machine is in, ``local`` for one made here, on
    loopback, for as long as it is used. ``cpus`` and ``gpus`` of one job are declared to Ray. ``distributions``: those
    that must have the same version on the node as here.
    """

    def __init__(
        self,
        address: str,
        root: Path,
        cpus: int,
        *,
        gpus: float = 0.0,
        insecure: bool = False,
        distributions: Sequence[str] = (),
        project: ProjectVariables = NO_PROJECT,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.root, self.cpus, self.gpus, self.tell = root, cpus, gpus, tell
        self._versions, self._project = ray_node.versions(distributions), project
        self._end = contextlib.ExitStack()
        try:
            self.ray: Any = connect(address, insecure, self._end)
            self._task = self.ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(ray_node.run_request)
            self._slots, self._counted, self._empty = self._count(), time.monotonic(), 0.0
            if self._slots == 0:
                raise ClusterError(f"{address}: no node can hold a job, which needs {self._needs()}: {self._nodes()}")
        except BaseException:
            self._end.close()
            raise

    @property
    def slots(self) -> int:
        """Jobs that all nodes can hold at once; nodes come and go. ClusterError if there was none for long."""
        now = time.monotonic()
        if now - self._counted >= FRESH:
            self._slots, self._counted = self._count(), now
            if self._slots:
                self._empty = 0.0
            elif not self._empty:
                self._empty = now
                self.tell(f"no node can hold a job now ({self._needs()}); waiting for one")
            elif now - self._empty > PATIENCE:
                raise ClusterError(f"no node could hold a job for {PATIENCE:.0f} s; start nodes and run again")
        return self._slots

    def start(self, job: Job) -> RayJob:
        folder = JobFolder((self.root / job.id).resolve())
        shutil.rmtree(folder.out, ignore_errors=True)
        folder.out.mkdir(parents=True)
        job = replace(job, slots=self.slots)
        folder.write(job)
        return RayJob(self, job, folder)

    def close(self) -> None:
        """End the tasks of this run, and the cluster if it was made for it."""
        self._end.close()

    def send(self, job: Job) -> Any:
        """Send the job to a node: an ObjectRefGenerator of its messages."""
        return self._task.remote(NodeRequest(job, self._versions, str(Path.cwd()), self.cpus, self._project).encode())

    def _count(self) -> int:
        return sum(self._holds(node["Resources"]) for node in self.ray.nodes() if node["Alive"])

    def _holds(self, resources: Mapping[str, float]) -> int:
        by_cpu = resources.get("CPU", 0.0) // self.cpus
        return int(min(by_cpu, resources.get("GPU", 0.0) // self.gpus) if self.gpus else by_cpu)

    def _needs(self) -> str:
        return f"{self.cpus} CPUs" + f" and {self.gpus:g} GPUs" * bool(self.gpus)

    def _nodes(self) -> str:
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return ", ".join(f"one has {r.get('CPU', 0):g} CPUs, {r.get('GPU', 0):g} GPUs" for r in alive) or "no nodes"


class RayJob:
    """A job on some node. Lost with its node, it is sent again: once for each loss."""

    def __init__(self, executor: RayExecutor, job: Job, folder: JobFolder) -> None:
        self.job, self.folder = job, folder
        self.peak_mib: float | None = None
        self.disk_mib: float | None = None
        self.node: str | None = None  # where it runs; None: nobody has taken it yet
        self.starts = 1
        self._executor, self._began, self._since = executor, time.monotonic(), 0.0
        self._progress: JobProgress | None = None
        self._ending: Ending | None = None
        self._asked = False
        self._answers = executor.send(job)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def ended(self) -> bool:
        limit = self.job.limits.seconds
        while self._ending is None and self._executor.ray.wait([self._answers], timeout=0)[0]:
            self._receive()
        if self._ending is None and self.node is not None and time.monotonic() - self._since > limit + LATE:
            self.kill()
            self._ending = Ending("timeout", f"its node did not end it after {limit:.0f} s")
        return self._ending is not None

    def progress(self) -> JobProgress | None:
        newest, self._progress = self._progress, None
        return newest

    def ask_to_end(self) -> None:
        self._cancel(force=False)

    def kill(self) -> None:
        """End the process on the node that looks after the job, and the job with it."""
        self._cancel(force=True)

    def _cancel(self, force: bool) -> None:
        if self._ending is None:
            self._asked = True
            self._executor.ray.cancel(self._answers, force=force, recursive=False)

    def finish(self) -> Ending:
        if not self.ended():
            self.kill()
        until = time.monotonic() + ANSWER
        while not self.ended() and time.monotonic() < until:
            time.sleep(PAUSE)
        return self._ending or Ending("killed", "asked to end; its node has not answered")

    def _receive(self) -> None:
        """The next message, which is there. See ``ray.exceptions`` for all that can be there in its place."""
        ray = self._executor.ray
        lost = (
            ray.exceptions.NodeDiedError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.LocalRayletDiedError,
            ray.exceptions.ObjectLostError,  # its owner died, or it was on a node that did
            ray.exceptions.TaskCancelledError,
            ray.exceptions.GetTimeoutError,
        )
        try:
            self._take(dict(json.loads(ray.get(next(self._answers), timeout=ANSWER))))
        except StopIteration:
            self._ending = Ending("failed", "its node ended it without a report")
        except lost as error:
            self._lose(type(error).__name__)
        except ray.exceptions.OutOfMemoryError:
            self._ending = Ending("oom", "the memory of its node ran out: Ray's memory monitor ended it")
        except ray.exceptions.RayError as error:
            self._ending = Ending("skipped", f"node: {_plain(error)}")
        except OSError as error:
            self._ending = Ending("failed", f"disk: what the node sent could not be written here: {error.strerror}")
        except (ValueError, KeyError, TypeError) as error:
            self._ending = Ending("failed", f"what the node sent cannot be read: {_plain(error)}")

    def _take(self, message: Mapping[str, Any]) -> None:
        self.peak_mib = message.get("peak_mib", self.peak_mib)
        self.disk_mib = message.get("disk_mib", self.disk_mib)
        if "node" in message:
            self.node, self._since = message["node"], time.monotonic()
        elif "progress" in message:
            self._progress = JobProgress(*message["progress"])
        else:
            if message.get("files") is not None:
                ray_node.write_files(message["files"], self.folder.result)
            self.folder.log.write_text(message["log"], encoding="utf-8", errors="replace")
            self._ending = Ending(message["status"], message["reason"], message["log"])

    def _lose(self, why: str) -> None:
        if self._asked:
            self._ending = Ending("killed", "asked to end")
        elif self.starts >= STARTS:
            self._ending = Ending("killed", f"lost with its node {self.starts} times")
        else:
            title = self.job.title or self.job.id
            self._executor.tell(f"{title}: lost with node {self.node} ({why}); it starts again elsewhere")
            self.starts, self.node = self.starts + 1, None
            self.job = replace(self.job, attempt=self.job.attempt + 1)
            self._answers = self._executor.send(self.job)


def _plain(error: BaseException) -> str:
    """The text of an error without addresses: reasons are kept and shared."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or [""]
    return _ADDRESS.sub("<node>", scrubbed(f"{type(cause).__name__}: {lines[0]} {lines[-1]}"))[:500]
