"""What a node does without a cluster: requests as bytes, results as bytes and back."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from harness.jobs import ray_node
from harness.jobs.environment import ProjectVariables
from harness.jobs.files import UnreadableError
from harness.jobs.job import Job, JobLimits
from harness.jobs.ray_node import NodeRequest


def test_a_request_comes_back_from_its_bytes() -> None:
    job = Job("j", "x:y", {"a": [1.5]}, JobLimits(60), launcher=("-m", "z"))
    request = NodeRequest(
        job, ray_node.versions(["numpy", "no-such-thing"]), "/somewhere", 2, ProjectVariables("P_", {"P_A": "b"})
    )
    assert request.versions["no-such-thing"] == "not installed"
    assert NodeRequest.decode(request.encode()) == request


def test_a_result_that_harms_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    os.mkfifo(tmp_path / "r" / "pipe")
    with pytest.raises(UnreadableError, match="not a regular file"):
        ray_node.encode_files(tmp_path / "r")


def test_a_result_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_node, "BYTES", 10)
    monkeypatch.setattr(ray_node, "FILES", 2)
    (tmp_path / "r").mkdir()
    for name in ("a", "b"):
        (tmp_path / "r" / name).write_bytes(b"x" * 5)
    assert ray_node.encode_files(tmp_path / "r") == dict.fromkeys("ab", base64.b64encode(b"x" * 5).decode())
    (tmp_path / "r" / "b").write_bytes(b"x" * 6)
    with pytest.raises(UnreadableError, match="at most 5 are read"):
        ray_node.encode_files(tmp_path / "r")
    (tmp_path / "r" / "c").touch()
    with pytest.raises(UnreadableError, match="3 files; at most 2 are brought back"):
        ray_node.encode_files(tmp_path / "r")


def test_what_comes_takes_the_place_of_what_was_there_and_leads_nowhere_else(tmp_path: Path) -> None:
    result = tmp_path / "result"
    ray_node.write_files({"a": "YQ=="}, result)
    ray_node.write_files({"b": "Yg=="}, result)
    assert [path.name for path in result.iterdir()] == ["b"]
    for name in ("../c", "/c", ".", "d/e"):
        with pytest.raises(ValueError, match="is not the name of a file"):
            ray_node.write_files({name: "YQ=="}, result)
    assert not (tmp_path / "c").exists()
