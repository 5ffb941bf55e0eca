"""The driver's side of a cluster without one: a pretended ``ray`` gives the answers that a test wants."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import plan
from harness.execution import cluster, node
from harness.execution.engine import Settings
from harness.execution.job import Job
from harness.execution.joining import ClusterError
from tests.harness import small

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra `cluster`)"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not an address of the machine"),
]


class Pretended:
    """As much of the module ``ray`` as the driver's side calls. ``answers``: what each task gives; errors are raised"""

    def __init__(self, *answers: Any, nodes: tuple[tuple[bool, int, int], ...] = ((True, 2, 0),)) -> None:
        import ray

        self.exceptions, self.answers, self.sent = ray.exceptions, answers, list[node.Order]()
        self.there = nodes

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}} for alive, cpus, gpus in self.there]

    def remote(self, **declared: Any) -> Any:
        self.declared = declared
        return lambda function: SimpleNamespace(remote=self.send)

    def send(self, order: bytes) -> Iterator[Any]:
        self.sent.append(node.ORDER.validate_json(order))
        return iter(self.answers)

    def wait(self, answers: Any, timeout: float) -> tuple[list[Any], list[Any]]:
        return answers, []

    def get(self, answer: Any, timeout: float) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer).encode()


def pretend(monkeypatch: pytest.MonkeyPatch, ray: Pretended, **settings: Any) -> tuple[cluster.Cluster, list[str]]:
    said = list[str]()
    monkeypatch.setattr(cluster, "connected", lambda *words: ray)
    suite = small.suite(methods=small.acts("a"), **settings.pop("suite", {}))
    return cluster.Cluster("h:1", suite, Settings(Path("runs"), workers=1), tell=said.append, **settings), said


def sent(place: cluster.Cluster) -> cluster.Remote:
    cell = plan.cells(place.suite, small.prints(place.suite))[0]
    return place.start(cell, Job(cell=cell, suite=place.suite, given={}))


def test_slots_are_what_the_living_nodes_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Pretended(nodes=((True, 5, 1), (True, 4, 0), (False, 64, 8)))
    assert pretend(monkeypatch, ray, suite={"threads": 2})[0].slots == 4
    assert pretend(monkeypatch, ray, suite={"threads": 2}, gpus=0.5)[0].slots == 2
    assert ray.declared == {"num_cpus": 2, "num_gpus": 0.5, "max_retries": 0}
    with pytest.raises(ClusterError, match="which needs 6 CPUs: one has 5 CPUs, 1 GPUs, one has 4 CPUs, 0 GPUs"):
        pretend(monkeypatch, ray, suite={"threads": 6})
    monkeypatch.setattr(cluster, "FRESH", 0.0)
    place, said = pretend(monkeypatch, ray)
    ray.there = ()
    assert [place.slots, place.slots] == [0, 0]
    assert said == ["no node can hold a cell now (1 CPUs); waiting for one"]
    monkeypatch.setattr(cluster, "PATIENCE", 0.0)
    with pytest.raises(ClusterError, match="start nodes and run again"):
        _ = place.slots


def test_a_cell_that_nodes_are_lost_with_is_given_up_after_five(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import ObjectLostError, OwnerDiedError, TaskCancelledError, WorkerCrashedError

    lost = [WorkerCrashedError(), TaskCancelledError(), ObjectLostError("a", "b", "c"), OwnerDiedError("a", "b", "c")]
    for error in lost:
        ray = Pretended({"pid": 1, "node": "n"}, error)
        place, said = pretend(monkeypatch, ray)
        cell = sent(place)
        assert cell.ended()
        assert cell.verdict()[1:3] == ("killed", "lost with its node 5 times")
        assert [order.job.attempt for order in ray.sent] == [1, 2, 3, 4, 5]
        assert len(said) == 4


def test_what_is_no_loss_is_a_verdict_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import OutOfMemoryError, RaySystemError

    secret = "10.1.2.3:4567"
    for answers, status, reason in [
        ([], "failed", "its node ended it without a word"),
        ([OutOfMemoryError("x")], "oom", "Ray's memory monitor"),
        ([RaySystemError(f"no module named harness at {secret}")], "skipped", "no module named harness at <node>"),
        ([{"status": "ok", "reason": "", "log": "", "files": {"record.json": "e30="}}], "failed", "cannot be read"),
        ([{"status": "ok", "reason": "", "log": "", "files": {"record.json": "?"}}], "failed", "cannot be read"),
        ([[]], "failed", "cannot be read"),
        ([{"status": "oom", "reason": "why", "log": "l", "files": None}], "oom", "why"),
    ]:
        ray = Pretended(*answers)
        cell = sent(pretend(monkeypatch, ray)[0])
        assert cell.ended()
        outcome, told_status, why, _ = cell.verdict()
        assert (outcome, told_status, len(ray.sent)) == (None, status, 1)
        assert reason in why
        assert secret not in why


def test_a_node_with_another_program_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Pretended()
    sent(pretend(monkeypatch, ray)[0])
    (order,) = ray.sent
    other = replace(order, facts={**order.facts, "Python": "2.7"})
    monkeypatch.setattr(node, "_own_address", lambda: "n")
    _, last = [json.loads(text) for text in node.attend(node.ORDER.dump_json(other))]
    assert last["status"] == "skipped"
    assert last["reason"].startswith("node: it has Python 3.")
    assert last["reason"].endswith(", the driver has 2.7")


def test_folders_of_tasks_that_were_killed_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    for name in (f"eavit-cell-{dead.pid}-x", f"eavit-cell-{os.getpid()}-y", "eavit-cell-z"):
        (tmp_path / name / "inner").mkdir(parents=True)
    with node._folder() as made:
        assert made.parent == tmp_path
        (made / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"eavit-cell-{os.getpid()}-y", "eavit-cell-z"]
