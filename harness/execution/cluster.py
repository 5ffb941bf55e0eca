"""Cells on a Ray cluster: one task a cell, its end brought back as bytes; what is lost with a node starts elsewhere.

Ray's own retries are off. Only the driver, where the engine is, touches the store.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.execution import children, node
from harness.execution.children import Step, Verdict
from harness.execution.engine import Settings
from harness.execution.job import Job
from harness.execution.joining import ClusterError, connected
from harness.execution.local import ENTRY
from harness.execution.node import Order
from harness.jobs.logs import scrubbed
from harness.plan import Cell
from harness.results.cell_files import Outcome, StoreError, decode
from harness.results.record import Status
from harness.suite import Suite

__all__ = ["Cluster", "ClusterError", "Remote"]

STARTS = 5  # of one cell that nodes were lost with; then it is `killed`
FRESH = 5.0  # seconds for which the count of slots is believed
PATIENCE = 600.0  # seconds without a node that can hold a cell, after which a run gives up
ANSWER = 20.0  # seconds for what a node told to come over, and for one that is asked to end a cell
LATE = 120.0  # seconds past a cell's own limit after which its node is not waited for
PAUSE = 0.05  # seconds between two looks at a node that was asked to end a cell
_ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b|\b[0-9a-f]{40,}\b")


class Cluster:
    """Where cells run: the nodes of a Ray cluster. One at a time in a process.

    ``address``: HOST:PORT of the head, ``auto`` for the cluster this machine is in, ``local`` for one made here,
    on loopback, for as long as it is used. ``gpus`` of one cell are declared to Ray, as its threads are.
    """

    def __init__(
        self,
        address: str,
        suite: Suite,
        settings: Settings,
        *,
        gpus: float = 0.0,
        insecure: bool = False,
        tell: Callable[[str], None] = print,
        entry: str = ENTRY,
    ) -> None:
        self.suite, self.settings, self.tell = suite, settings, tell
        self.cpus, self.gpus, self.entry = suite.threads * suite.processes, gpus, entry
        self._end = contextlib.ExitStack()
        try:
            self.ray: Any = connected(address, insecure, self._end)
            self._task = self.ray.remote(num_cpus=self.cpus, num_gpus=gpus, max_retries=0)(node.attend)
            self._slots, self._asked, self._empty = self._count(), time.monotonic(), 0.0
            if self._slots == 0:
                raise ClusterError(f"{address}: no node can hold a cell, which needs {self._needs()}: {self._nodes()}")
        except BaseException:
            self._end.close()
            raise

    @property
    def slots(self) -> int:
        """Cells that all nodes can hold at once; nodes come and go. ClusterError if there was none for long."""
        now = time.monotonic()
        if now - self._asked >= FRESH:
            self._slots, self._asked = self._count(), now
            if self._slots:
                self._empty = 0.0
            elif not self._empty:
                self._empty = now
                self.tell(f"no node can hold a cell now ({self._needs()}); waiting for one")
            elif now - self._empty > PATIENCE:
                raise ClusterError(f"no node could hold a cell for {PATIENCE:.0f} s; start nodes and run again")
        return self._slots

    def start(self, cell: Cell, job: Job) -> Remote:
        return Remote(self, cell, job)

    def close(self) -> None:
        """End the tasks of this run, and the cluster if it was made for it."""
        self._end.close()

    def send(self, job: Job) -> Any:
        """What a node will tell about the job, as an ObjectRefGenerator."""
        memory, disk = self.settings.memory_gib, self.settings.disk_gib
        order = Order(job, self.entry, node.facts(), str(Path.cwd()), self.cpus, memory, disk)
        return self._task.remote(node.ORDER.dump_json(order))

    def _count(self) -> int:
        return sum(self._holds(one["Resources"]) for one in self.ray.nodes() if one["Alive"])

    def _holds(self, there: Mapping[str, float]) -> int:
        by_cpu = there.get("CPU", 0.0) // self.cpus
        return int(min(by_cpu, there.get("GPU", 0.0) // self.gpus) if self.gpus else by_cpu)

    def _needs(self) -> str:
        return f"{self.cpus} CPUs" + f" and {self.gpus:g} GPUs" * bool(self.gpus)

    def _nodes(self) -> str:
        alive = [one["Resources"] for one in self.ray.nodes() if one["Alive"]]
        return (
            ", ".join(f"one has {one.get('CPU', 0):g} CPUs, {one.get('GPU', 0):g} GPUs" for one in alive) or "no nodes"
        )


class Remote:
    """A cell on some node. Lost with its node, it is sent again: once for each loss."""

    def __init__(self, cluster: Cluster, cell: Cell, job: Job) -> None:
        self.cell = cell
        self.peak_mib: float | None = None
        self.disk_mib: float | None = None
        self.node: str | None = None  # where it runs; None: nobody has taken it yet
        self.starts = 1
        self._cluster, self._job, self._began = cluster, job, time.monotonic()
        self._since = 0.0
        self._step: Step | None = None
        self._verdict: Verdict | None = None
        self._asked = False
        self._answers = cluster.send(job)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def ended(self) -> bool:
        limit = self._job.suite.timeout_minutes * 60
        while self._verdict is None and self._cluster.ray.wait([self._answers], timeout=0)[0]:
            self._hear()
        if self._verdict is None and self.node is not None and time.monotonic() - self._since > limit + LATE:
            self.kill()
            self._verdict = None, "timeout", f"its node did not end it after {limit:.0f} s", ""
        return self._verdict is not None

    def step(self) -> Step | None:
        newest, self._step = self._step, None
        return newest

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """SIGKILL ends the process on the node that looks after the cell, and the cell with it; else both are asked."""
        if self._verdict is None:
            self._asked = True
            self._cluster.ray.cancel(self._answers, force=number == signal.SIGKILL, recursive=False)

    def verdict(self) -> Verdict:
        if not self.ended():
            self.kill()
        until = time.monotonic() + ANSWER
        while not self.ended() and time.monotonic() < until:
            time.sleep(PAUSE)
        return self._verdict or (None, "killed", "asked to end; its node has not answered", "")

    def _hear(self) -> None:
        """The next message, which is there. See ``ray.exceptions`` for all that can be there in its place."""
        ray = self._cluster.ray
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
            self._verdict = None, "failed", "its node ended it without a word", ""
        except lost as error:
            self._lose(type(error).__name__)
        except ray.exceptions.OutOfMemoryError:
            self._verdict = None, "oom", "the memory of its node ran out: Ray's memory monitor ended it", ""
        except ray.exceptions.RayError as error:
            self._verdict = None, "skipped", f"node: {_plain(error)}", ""
        except (ValueError, KeyError, TypeError) as error:
            self._verdict = None, "failed", f"what the node sent cannot be read: {_plain(error)}", ""

    def _take(self, told: Mapping[str, Any]) -> None:
        self.peak_mib, self.disk_mib = told.get("peak_mib", self.peak_mib), told.get("disk_mib", self.disk_mib)
        if "node" in told:
            self.node, self._since = told["node"], time.monotonic()
        elif "step" in told:
            self._step = Step(*told["step"])
        else:
            outcome, broken = _outcome(told.get("files"), self.cell)
            status, reason = broken or (told["status"], told["reason"])
            if outcome is not None:  # the starts that were lost count too
                outcome = replace(outcome, record=outcome.record.model_copy(update={"attempts": self._job.attempt}))
            self._verdict = outcome, status, reason, told["log"]

    def _lose(self, why: str) -> None:
        if self._asked:
            self._verdict = None, "killed", "asked to end", ""
        elif self.starts >= STARTS:
            self._verdict = None, "killed", f"lost with its node {self.starts} times", ""
        else:
            self._cluster.tell(f"{self.cell.title}: lost with node {self.node} ({why}); it starts again elsewhere")
            self.starts, self.node = self.starts + 1, None
            self._job = replace(self._job, attempt=self._job.attempt + 1)
            self._answers = self._cluster.send(self._job)


def _outcome(files: Mapping[str, str] | None, cell: Cell) -> tuple[Outcome | None, tuple[Status, str] | None]:
    """What came over the network, checked as what a process here leaves."""
    if files is None:
        return None, None
    try:
        whole = {name: base64.b64decode(text, validate=True) for name, text in files.items()}
        return children.checked(decode(whole, "what the node sent"), cell), None
    except children.Unusable as error:
        return None, (error.status, str(error))
    except (StoreError, KeyError, ValueError) as error:
        return None, ("failed", f"what the node sent cannot be read: {error}")


def _plain(error: BaseException) -> str:
    """Without addresses: reasons are kept in records, and those are shared."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or [""]
    return _ADDRESS.sub("<node>", scrubbed(f"{type(cause).__name__}: {lines[0]} {lines[-1]}"))[:500]
