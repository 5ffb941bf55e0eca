"""Part of a Ray executor that runs on a node: run one job of a request as this machine would, and report it in JSON."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from harness.jobs import processes
from harness.jobs.environment import ProjectVariables
from harness.jobs.files import UnreadableError, read_regular
from harness.jobs.job import Job
from harness.jobs.local import LocalExecutor, LocalJob

FOLDER = "job-"
PAUSE, REPORT = 0.05, 0.5  # seconds between two looks at a process, between two messages about it
FILES, BYTES = 100, 256 * 2**20  # of a result that are brought back


@dataclass(frozen=True)
class NodeRequest:
    """Message to a node. ``versions``: what must be the same on both sides. ``folder``: where the driver works."""

    job: Job
    versions: Mapping[str, str]
    folder: str
    cpus: int
    project: ProjectVariables

    def encode(self) -> bytes:
        return json.dumps({**asdict(self), "job": self.job.encode().decode()}).encode()

    @classmethod
    def decode(cls, text: bytes) -> NodeRequest:
        raw = json.loads(text)
        job = Job.decode(raw["job"].encode(), "request")
        return cls(**{**raw, "job": job, "project": ProjectVariables(**raw["project"])})


def versions(distributions: Sequence[str]) -> dict[str, str]:
    """Python's minor release and the versions of installed distributions."""
    installed = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in distributions:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def run_request(text: bytes) -> Iterator[bytes]:
    """Run the job of a :class:`NodeRequest`. Yields JSON: where it runs, then its progress, last how it ended."""
    request = NodeRequest.decode(text)
    here = versions([name for name in request.versions if name != "Python"])
    yield _message(pid=os.getpid(), node=_own_address())
    other = [
        f"it has {n} {here[n]}, the driver has {theirs}" for n, theirs in request.versions.items() if here[n] != theirs
    ]
    if other:
        yield _message(status="skipped", reason=f"node: {'; '.join(other)}", log="")
        return
    with processes.temporary_folder(FOLDER) as folder, _working(Path(request.folder)):
        yield from _run(request, folder)


def _run(request: NodeRequest, folder: Path) -> Iterator[bytes]:
    executor = LocalExecutor(folder, _slots(request.cpus), project=request.project)
    running = executor.start(request.job)
    yield from _progress(running)
    ending = running.finish()
    try:
        files = encode_files(running.folder.result) if ending.status == "ok" else None
        yield _message(**asdict(ending), files=files, **_used(running))
    except UnreadableError as error:
        yield _message(status="failed", reason=f"its result cannot be read: {error}", log=ending.log, **_used(running))


def _progress(running: LocalJob) -> Iterator[bytes]:
    """Yield progress until the process ends. An exception here ends the process: nothing outlives its task."""
    newest, reported = None, time.monotonic()
    try:
        while not running.ended():
            newest = running.progress() or newest
            if newest is not None and time.monotonic() - reported >= REPORT:
                yield _message(progress=[newest.phase, newest.done, newest.total], **_used(running))
                newest, reported = None, time.monotonic()
            time.sleep(PAUSE)
    finally:
        running.kill()


def _used(running: LocalJob) -> dict[str, float | None]:
    return {"peak_mib": running.peak_mib, "disk_mib": running.disk_mib}


def _message(**parts: object) -> bytes:
    return json.dumps(parts).encode()


def encode_files(result: Path) -> dict[str, str]:
    """The files of a result's folder in base64, by name; the name of a result that is a file itself is empty."""
    paths = {path.name: path for path in sorted(result.iterdir())} if result.is_dir() else {"": result}
    if len(paths) > FILES:
        raise UnreadableError(f"{len(paths)} files; at most {FILES} are brought back")
    packed, left = {}, BYTES
    for name, path in paths.items():
        content = read_regular(path, left)
        left -= len(content)
        packed[name] = base64.b64encode(content).decode()
    return packed


def write_files(files: Mapping[str, str], result: Path) -> None:
    """Write what :func:`encode_files` gave; ValueError for what it cannot have given."""
    contents = {name: base64.b64decode(text, validate=True) for name, text in files.items()}
    for path in (result, beside := result.with_name(f"{result.name}.tmp")):
        shutil.rmtree(path, ignore_errors=True)
    if "" in contents:
        beside.write_bytes(contents[""])
    else:
        beside.mkdir()
        for name, content in contents.items():
            if name != Path(name).name:
                raise ValueError(f"{name!r} is not the name of a file")
            (beside / name).write_bytes(content)
    beside.rename(result)


def _own_address() -> str:
    ray: Any = import_module("ray")
    return str(ray.util.get_node_ip_address())


def _slots(cpus: int) -> int:
    """Number of jobs that this node may run at once: they share its memory."""
    ray: Any = import_module("ray")
    node_id = ray.get_runtime_context().get_node_id()
    total = next((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["NodeID"] == node_id), 0.0)
    return max(1, int(total // cpus))


@contextlib.contextmanager
def _working(folder: Path) -> Iterator[None]:
    """Change to the driver's working folder, if the node has it too: a user's own modules are found there."""
    before = Path.cwd()
    if folder.is_dir():
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
