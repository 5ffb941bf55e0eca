"""The driver's side of a cluster without one: a pretended ``ray`` gives the answers that a test wants."""

from __future__ import annotations

import errno
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.jobs import ray_executor, ray_node
from harness.jobs.job import Job, JobLimits
from harness.jobs.ray_connection import ClusterError
from harness.jobs.ray_node import NodeRequest

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra `cluster`)"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not an address of the machine"),
]


class Pretended:
    """As much of the module ``ray`` as the driver's side calls. ``answers``: what each task gives; errors are raised"""

    def __init__(self, *answers: Any, nodes: tuple[tuple[bool, int, int], ...] = ((True, 2, 0),)) -> None:
        import ray

        self.exceptions, self.answers, self.sent = ray.exceptions, answers, list[NodeRequest]()
        self.there = nodes

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}} for alive, cpus, gpus in self.there]

    def remote(self, **declared: Any) -> Any:
        self.declared = declared
        return lambda function: SimpleNamespace(remote=self.send)

    def send(self, request: bytes) -> Iterator[Any]:
        self.sent.append(NodeRequest.decode(request))
        return iter(self.answers)

    def wait(self, answers: Any, timeout: float) -> tuple[list[Any], list[Any]]:
        return answers, []

    def get(self, answer: Any, timeout: float) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer).encode()


def pretend(
    monkeypatch: pytest.MonkeyPatch, folder: Path, ray: Pretended, cpus: int = 1, gpus: float = 0.0
) -> tuple[ray_executor.RayExecutor, list[str]]:
    told = list[str]()
    monkeypatch.setattr(ray_executor, "connect", lambda *words: ray)
    executor = ray_executor.RayExecutor(
        "h:1", folder, cpus, gpus=gpus, distributions=("eavit-bench",), tell=told.append
    )
    return executor, told


JOB = Job("ab", "tests.harness.jobs.victims:speak", None, JobLimits(60), "the title")


def test_slots_are_what_the_living_nodes_can_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = Pretended(nodes=((True, 5, 1), (True, 4, 0), (False, 64, 8)))
    assert pretend(monkeypatch, tmp_path, ray, 2)[0].slots == 4
    assert pretend(monkeypatch, tmp_path, ray, 2, 0.5)[0].slots == 2
    assert ray.declared == {"num_cpus": 2, "num_gpus": 0.5, "max_retries": 0}
    with pytest.raises(ClusterError, match="which needs 6 CPUs: one has 5 CPUs, 1 GPUs, one has 4 CPUs, 0 GPUs"):
        pretend(monkeypatch, tmp_path, ray, 6)
    monkeypatch.setattr(ray_executor, "FRESH", 0.0)
    place, said = pretend(monkeypatch, tmp_path, ray)
    ray.there = ()
    assert [place.slots, place.slots] == [0, 0]
    assert said == ["no node can hold a job now (1 CPUs); waiting for one"]
    monkeypatch.setattr(ray_executor, "PATIENCE", 0.0)
    with pytest.raises(ClusterError, match="start nodes and run again"):
        _ = place.slots


def test_a_job_that_nodes_are_lost_with_is_given_up_after_five(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ray.exceptions import ObjectLostError, OwnerDiedError, TaskCancelledError, WorkerCrashedError

    lost = [WorkerCrashedError(), TaskCancelledError(), ObjectLostError("a", "b", "c"), OwnerDiedError("a", "b", "c")]
    for error in lost:
        ray = Pretended({"pid": 1, "node": "n"}, error)
        executor, told = pretend(monkeypatch, tmp_path, ray)
        running = executor.start(JOB)
        assert running.ended()
        ending = running.finish()
        assert (ending.status, ending.reason) == ("killed", "lost with its node 5 times")
        assert [request.job.attempt for request in ray.sent] == [1, 2, 3, 4, 5]
        assert len(told) == 4
        assert told[0].startswith("the title: lost with node n (")


def test_what_is_no_loss_is_an_end_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ray.exceptions import OutOfMemoryError, RaySystemError

    secret = "10.1.2.3:4567"
    for answers, status, reason in [
        ([], "failed", "its node ended it without a report"),
        ([OutOfMemoryError("x")], "oom", "Ray's memory monitor"),
        ([RaySystemError(f"no module named harness at {secret}")], "skipped", "no module named harness at <node>"),
        ([{"status": "ok", "reason": "", "log": "", "files": {"a": "?"}}], "failed", "cannot be read"),
        ([{"status": "ok", "reason": "", "log": "", "files": {"../a": "YQ=="}}], "failed", "cannot be read"),
        ([[]], "failed", "cannot be read"),
        ([{"status": "oom", "reason": "why", "log": "l", "files": None}], "oom", "why"),
    ]:
        ray = Pretended(*answers)
        running = pretend(monkeypatch, tmp_path, ray)[0].start(JOB)
        assert running.ended()
        ending = running.finish()
        assert (ending.status, len(ray.sent)) == (status, 1)
        assert reason in ending.reason
        assert secret not in ending.reason
    assert not (tmp_path / "a").exists()


def test_a_result_is_brought_into_the_jobs_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for name, content in (("x.json", b"{}"), ("y.bin", bytes(range(256)))):
        (tmp_path / "far" / name).write_bytes(content)
    (tmp_path / "file").write_text("one file")
    for result in (tmp_path / "far", tmp_path / "file"):
        ray = Pretended({"status": "ok", "reason": "", "log": "the log", "files": ray_node.encode_files(result)})
        running = pretend(monkeypatch, tmp_path / "runs", ray)[0].start(JOB)
        assert running.ended()
        assert running.finish().status == "ok"
        assert running.folder.log.read_text() == "the log"
        near = running.folder.result
        if result.is_dir():
            assert {path.name: path.read_bytes() for path in near.iterdir()} == {
                path.name: path.read_bytes() for path in result.iterdir()
            }
        else:
            assert near.read_text() == "one file"


def test_a_full_disk_here_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*words: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ray_node, "write_files", full)
    ray = Pretended({"status": "ok", "reason": "", "log": "", "files": {"a": "YQ=="}})
    running = pretend(monkeypatch, tmp_path, ray)[0].start(JOB)
    assert running.ended()
    assert running.finish().reason == "disk: what the node sent could not be written here: No space left on device"


def test_a_node_with_another_program_does_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = Pretended()
    pretend(monkeypatch, tmp_path, ray)[0].start(JOB)
    (request,) = ray.sent
    other = replace(request, versions={**request.versions, "Python": "2.7"})
    monkeypatch.setattr(ray_node, "_own_address", lambda: "n")
    _, last = [json.loads(text) for text in ray_node.run_request(other.encode())]
    assert last["status"] == "skipped"
    assert last["reason"].startswith("node: it has Python 3.")
    assert last["reason"].endswith(", the driver has 2.7")
