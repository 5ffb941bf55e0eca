"""What tests/harness/test_cluster.py starts in processes of their own.

``python -m tests.harness.clustered JOBFOLDER OUTFOLDER``: a cell like those of stub.py. It adds its tag and its process
to a file in the folder that its option ``starts`` names. It hangs, with a helper, where its own folder's name holds the
option ``hang``.

``python -m tests.harness.clustered drive JSON``: a run on a cluster, which prints what it did as JSON.
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
from harness.execution import engine, job
from harness.execution.children import Step
from harness.execution.engine import Settings
from harness.processes.lifeline import die_with_parent
from harness.results import store
from harness.results.record import Status
from tests.harness import small, stub

ENTRY = "tests.harness.clustered"


class Heard:
    """A watcher that counts steps."""

    steps = 0

    def begin(self, todo: Sequence[plan.Cell], kept: int) -> None: ...
    def start(self, cell: plan.Cell) -> None: ...
    def finish(self, cell: plan.Cell, status: Status, seconds: float, reason: str) -> None: ...
    def tick(self) -> None: ...
    def step(self, cell: plan.Cell, step: Step) -> None:
        self.steps += 1


def main() -> None:
    die_with_parent()
    folders = job.Folders(Path(sys.argv[1]))
    task = job.read(folders.job)
    options = dict(task.suite.method(task.cell.method).options)
    folders.progress.write_text('{"phase": "train", "done": 1, "total": 2}\n')
    hangs = str(options.get("hang", "nowhere")) in str(folders.root)
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) if hangs else None
    with (Path(str(options["starts"])) / "starts").open("a") as starts:
        starts.write(f"{options['tag']} {os.getpid()} {helper.pid if helper else ''}\n")
    time.sleep(60 if hangs else float(str(options.get("seconds", 0))))
    store.save(stub.outcome(task), folders.out / "beside")
    (folders.out / "beside").rename(Path(sys.argv[2]) / job.OUTCOME)


def drive(asked: dict[str, Any]) -> None:
    from harness.execution.cluster import Cluster, ClusterError, Remote

    cells: list[Remote] = []

    class Watched(Cluster):
        def start(self, cell: plan.Cell, task: job.Job) -> Remote:
            cells.append(super().start(cell, task))
            return cells[-1]

    folder, told, heard = Path(asked["folder"]), list[str](), Heard()
    suite = small.suite(methods=asked["methods"], seeds=asked["seeds"], threads=asked.get("threads", 1))
    settings, kept = Settings(folder / "runs", workers=2), store.Store(folder / "results")
    kept.prepare()
    began = time.monotonic()
    try:
        place = Watched(asked["address"], suite, settings, tell=told.append, entry=ENTRY)
    except ClusterError as error:
        print(json.dumps({"refused": str(error), "seconds": time.monotonic() - began}))
        return
    connected = time.monotonic() - began
    try:
        planned = plan.cells(suite, small.prints(suite))
        summary = engine.run(suite, planned, kept, settings, heard, place)
        outside = listening() if asked["address"] == "local" else []
    finally:
        place.close()
    report = {
        "seconds": connected,
        "nodes": [cell.node for cell in cells],
        "starts": {cell.cell.id: cell.starts for cell in cells},
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
    if sys.argv[1] == "drive":
        drive(json.loads(sys.argv[2]))
    else:
        main()
