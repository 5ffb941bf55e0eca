"""What a node of a cluster does: one cell of an order, run as this machine would, told about in JSON."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from harness.execution.job import Job
from harness.execution.local import Local, Means
from harness.execution.places import Running
from harness.results.cell_files import encode

FOLDER = "eavit-cell-"
PAUSE, TELL = 0.05, 0.5  # seconds between two looks at a child, between two messages about it


@checked(frozen=True)
class Order:
    """What a node is sent. ``facts``: what must be the same on both sides. ``folder``: where the driver works."""

    job: Job
    entry: str
    facts: Mapping[str, str]
    folder: str
    cpus: int
    memory_gib: float | None
    disk_gib: float


ORDER = TypeAdapter(Order)


def facts() -> dict[str, str]:
    """Python's minor release and the version of this program. The code of a cell is compared by its own digests."""
    try:
        version = metadata.version("eavit-bench")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "eavit-bench": version}


def attend(text: bytes) -> Iterator[bytes]:
    """Run the cell of an :class:`Order`. Gives JSON: where it runs, then steps now and then, last how it ended."""
    order, here = ORDER.validate_json(text), facts()
    yield _message(pid=os.getpid(), node=_own_address())
    other = [
        f"it has {name} {here[name]}, the driver has {told}" for name, told in order.facts.items() if here[name] != told
    ]
    if other:
        yield _message(status="skipped", reason=f"node: {'; '.join(other)}", log="")
        return
    with _folder() as folder, _working(Path(order.folder)):
        yield from _run(order, folder)


def _run(order: Order, folder: Path) -> Iterator[bytes]:
    os.environ["EAVIT_NURSERY"] = "0"  # it pays for several cells; here is one
    means = Means(
        runs=folder,
        workers=_beside(order.cpus),
        command=(sys.executable, "-m", order.entry),
        memory_gib=order.memory_gib,
        disk_gib=order.disk_gib,
    )
    task = replace(order.job, workers=means.workers, memory_mib=means.memory_mib)
    place = Local(task.suite, [task.cell], means)
    try:
        running = place.start(task.cell, task)
        yield from _steps(running)
        outcome, status, reason, log = running.verdict()
        files = None if outcome is None else encode(outcome)
        packed = None if files is None else {name: base64.b64encode(data).decode() for name, data in files.items()}
        yield _message(status=status, reason=reason, log=log, files=packed, **_taken(running))
    finally:
        place.close()


def _steps(running: Running) -> Iterator[bytes]:
    """Until the end of the process. Whatever ends this before ends the process: nothing outlives its task."""
    newest, told = None, time.monotonic()
    try:
        while not running.ended():
            newest = running.step() or newest
            if newest is not None and time.monotonic() - told >= TELL:
                yield _message(step=[newest.phase, newest.done, newest.total], **_taken(running))
                newest, told = None, time.monotonic()
            time.sleep(PAUSE)
    finally:
        running.kill()


def _taken(running: Running) -> dict[str, float | None]:
    return {"peak_mib": running.peak_mib, "disk_mib": running.disk_mib}


def _message(**parts: object) -> bytes:
    return json.dumps(parts).encode()


def _own_address() -> str:
    ray: Any = import_module("ray")
    return str(ray.util.get_node_ip_address())


def _beside(cpus: int) -> int:
    """How many cells this node may hold at once: they share its memory."""
    ray: Any = import_module("ray")
    own = ray.get_runtime_context().get_node_id()
    total = next((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["NodeID"] == own), 0.0)
    return max(1, int(total // cpus))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for one cell in the node's temporary place; those whose process was killed before are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        owner = left.name.removeprefix(FOLDER).partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _working(folder: Path) -> Iterator[None]:
    """In the driver's working folder, if the node has it too: a user's own modules are found there."""
    before = Path.cwd()
    if folder.is_dir():
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
