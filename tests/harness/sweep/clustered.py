"""What tests/harness/sweep/test_ray_cluster.py starts in processes of their own.

``run_job``: a cell like those of stub.py. It adds its tag and its process to a file in the folder that its option
``starts`` names. It hangs, with a helper, where its own folder's name holds the option ``hang``.

``python -m tests.harness.sweep.clustered JSON``: a run on a cluster, which prints what it did as JSON.
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import plan
from harness.jobs.job import Job, JobFolder, JobProgress
from harness.results import store
from harness.results.record import Status
from harness.sweep import cell_job, executors, sweep
from harness.sweep.pending import Settings
from tests.harness import small
from tests.harness.sweep import stub

MODULE = "tests.harness.sweep.clustered"
ENTRY = f"{MODULE}:run_job"


class Heard:
    """A watcher that counts steps."""

    steps = 0

    def begin(self, todo: Sequence[plan.Cell], kept: int) -> None: ...
    def start(self, cell: plan.Cell) -> None: ...
    def finish(self, cell: plan.Cell, status: Status, seconds: float, reason: str) -> None: ...
    def tick(self) -> None: ...
    def step(self, cell: plan.Cell, step: JobProgress) -> None:
        self.steps += 1


def run_job(job: Job, folder: JobFolder) -> None:
    task = cell_job.task_of(job)
    options = dict(task.suite.method(task.cell.method).options)
    folder.progress.write_text('{"phase": "train", "done": 1, "total": 2}\n')
    hangs = str(options.get("hang", "nowhere")) in str(folder.root)
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) if hangs else None
    with (Path(str(options["starts"])) / "starts").open("a") as starts:
        starts.write(f"{options['tag']} {os.getpid()} {helper.pid if helper else ''}\n")
    time.sleep(60 if hangs else float(str(options.get("seconds", 0))))
    stub.leave(stub.outcome(task), folder)


def drive(asked: dict[str, Any]) -> None:
    from harness.jobs.ray_executor import ClusterError, RayExecutor, RayJob

    jobs: list[RayJob] = []
    start = RayExecutor.start

    def watched(self: RayExecutor, job: Job) -> RayJob:
        jobs.append(start(self, job))
        return jobs[-1]

    RayExecutor.start = watched  # type: ignore[method-assign]
    folder, told, heard = Path(asked["folder"]), list[str](), Heard()
    suite = small.suite(methods=asked["methods"], seeds=asked["seeds"], threads=asked.get("threads", 1))
    settings, kept = Settings(folder / "runs", workers=2, entry=ENTRY), store.Store(folder / "results")
    kept.prepare()
    began = time.monotonic()
    try:
        cluster = executors.on_ray(asked["address"], suite, settings, insecure=False, tell=told.append)
    except ClusterError as error:
        print(json.dumps({"refused": str(error), "seconds": time.monotonic() - began}))
        return
    connected = time.monotonic() - began
    try:
        planned = plan.cells(suite, small.prints(suite))
        summary = sweep.run(suite, planned, kept, settings, heard, cluster)
        outside = listening() if asked["address"] == "local" else []
    finally:
        cluster.close()
    report = {
        "seconds": connected,
        "nodes": [job.node for job in jobs],
        "starts": {job.job.id: job.starts for job in jobs},
        "statuses": [record.status for record in summary.records.values()],
        "attempts": {record.cell: record.attempts for record in summary.records.values()},
        "reasons": [record.reason for record in summary.records.values()],
        "interrupted": summary.interrupted,
        "steps": heard.steps,
        "told": told,
        "outside": outside,
    }
    print(json.dumps(report), flush=True)


def listening() -> list[str]:
    """Addresses beside loopback on which this process and all that it started can be reached."""
    import psutil

    own = psutil.Process()
    ports = [port for one in [own, *own.children(recursive=True)] for port in one.net_connections("inet")]
    hosts = {port.laddr.ip.removeprefix("::ffff:") for port in ports if port.status == psutil.CONN_LISTEN}
    if not hosts:
        raise RuntimeError("nothing listens: the test looks at the wrong processes")
    return sorted(host for host in hosts if not ipaddress.ip_address(host).is_loopback)


if __name__ == "__main__":
    drive(json.loads(sys.argv[1]))
