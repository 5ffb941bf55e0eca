"""A real Ray cluster of two nodes on loopback addresses, with a token; one of its nodes is killed at work."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness import plan
from harness.jobs import ray_connection
from harness.jobs.ray_connection import ClusterError
from harness.results.points import point_rows
from harness.results.store import Store
from harness.sweep import sweep
from harness.sweep.pending import Settings
from tests.harness import small
from tests.harness.sweep.clustered import ENTRY, MODULE, Heard
from tests.harness.sweep.stub_sweeps import gone

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra `cluster`)"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not an address of the machine"),
]
ROOT = Path(__file__).resolve().parents[3]
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
RAY = (sys.executable, "-m", "ray.scripts.scripts")


@dataclass
class Two:
    """A cluster. ``folder`` holds a temporary place for each node, named by its address."""

    folder: Path
    port: int
    environment: dict[str, str]

    @property
    def address(self) -> str:
        return f"{HEAD}:{self.port}"

    def start(self, node: str, *words: str) -> subprocess.Popen[bytes]:
        place = self.folder / node
        place.mkdir(exist_ok=True)
        command = [*RAY, "start", "--num-cpus=1", "--object-store-memory=80000000", "--include-log-monitor=false"]
        command += [f"--node-ip-address={node}", "--disable-usage-stats", *words]
        with (self.folder / f"{node}.log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env={**self.environment, "TMPDIR": str(place)}, stdout=log, stderr=log
            )

    def processes(self, of: str = "") -> list[int]:
        """All that were started with the environment of a node: Ray's own, and cells.

        Ray's agents write their titles over a part of theirs: without a node's name any trace of the folder will do.
        """
        mark = f"TMPDIR={self.folder}/{of}".encode() if of else str(self.folder).encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def kill(self, of: str = "") -> None:
        """Without a word beforehand; the cells are left to end by themselves."""
        for pid in self.processes(of):
            with contextlib.suppress(OSError):
                if b"harness.jobs.supervisor" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HEAD, 0))
        return int(probe.getsockname()[1])


def answers(port: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((HEAD, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def nodes(**changes: str) -> Iterator[Two]:
    folder = Path(tempfile.mkdtemp(prefix="eb", dir="/tmp"))  # sockets below it may have 107 bytes of path
    (folder / "token").write_text(secrets.token_hex(32))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    bounded = {"RAY_memory_monitor_refresh_ms": "0", "OMP_NUM_THREADS": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    two = Two(folder, free_port(), {**inherited, **bounded, **token, **changes})
    try:
        started = [two.start(HEAD, "--head", f"--port={two.port}", "--include-dashboard=false", f"--temp-dir={folder}")]
        if not changes:
            answers(two.port, 30)
            started.append(two.start(OTHER, f"--address={two.address}"))
        for one in started:
            if one.wait(120):
                raise RuntimeError((folder / f"{HEAD}.log").read_text() + (folder / f"{OTHER}.log").read_text())
        yield two
    finally:
        for one in started:
            one.kill()
        two.kill()
        time.sleep(0.2)
        two.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    with nodes() as made:
        yield made


@pytest.fixture
def as_node(two: Two, monkeypatch: pytest.MonkeyPatch) -> Two:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, two.environment[name])
    return two


def methods(folder: Path, *names: str, **options: Any) -> list[dict[str, Any]]:
    return small.acts(*names, starts=str(folder), **options)


def driver(two: Two, folder: Path, given: list[dict[str, Any]], **asked: Any) -> subprocess.Popen[bytes]:
    wanted = {"address": two.address, "folder": str(folder), "methods": given, "seeds": [0], **asked}
    command = [sys.executable, "-m", MODULE, json.dumps(wanted)]
    environment = {**two.environment, "RAY_ADDRESS": two.address}  # what `auto` means; `local` must not heed it
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def told(process: subprocess.Popen[bytes], seconds: float = 120) -> dict[str, Any]:
    out, err = process.communicate(timeout=seconds)
    try:
        return dict(json.loads(out.splitlines()[-1]))
    except (IndexError, ValueError):
        raise RuntimeError(f"{process.returncode}\n{out.decode()}\n{err.decode()}") from None


def starts(folder: Path, least: int, seconds: float = 90.0) -> list[list[str]]:
    """Tag, process and helper of each start of a cell, as soon as there are enough."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            lines = (folder / "starts").read_text().splitlines()
            if len(lines) >= least:
                return [line.split() for line in lines]
        if time.monotonic() > until:
            raise TimeoutError(f"{least} starts")
        time.sleep(0.05)


def points(folder: Path, given: list[dict[str, Any]], seeds: list[int]) -> list[dict[str, Any]]:
    suite = small.suite(methods=given, seeds=seeds)
    found = point_rows(plan.cells(suite, small.prints(suite)), Store(folder / "results").records())
    return [{key: value for key, value in row.items() if key not in ("train_seconds", "latency_ms")} for row in found]


def test_a_suite_runs_on_both_nodes_and_gives_the_points_of_one_machine(two: Two, tmp_path: Path) -> None:
    given, seeds = methods(tmp_path, "a", "b", "c", "d", seconds=0.3), [0, 1]
    given[3]["after"] = ["a"]
    report = told(driver(two, tmp_path / "far", given, seeds=seeds))
    assert report["statuses"] == ["ok"] * 8
    assert set(report["nodes"]) == {HEAD, OTHER}
    assert report["steps"] > 0
    assert len(starts(tmp_path, 8)) == 8
    suite, near = small.suite(methods=given, seeds=seeds), Store(tmp_path / "near" / "results")
    near.prepare()
    settings = Settings(tmp_path / "near" / "runs", workers=2, entry=ENTRY, fork=False)
    sweep.run(suite, plan.cells(suite, small.prints(suite)), near, settings, Heard())
    assert points(tmp_path / "far", given, seeds) == points(tmp_path / "near", given, seeds)
    assert len(points(tmp_path / "far", given, seeds)) == 16
    assert not list(two.folder.glob("*/job-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_runs_on_after_an_interrupt_or_the_end_of_the_driver(
    two: Two, tmp_path: Path, number: signal.Signals
) -> None:
    at_work = driver(two, tmp_path, methods(tmp_path, "a", hang="job-"), address="auto")
    ((_, *pids),) = starts(tmp_path, 1)
    at_work.send_signal(number)
    if number == signal.SIGINT:
        report = told(at_work)
        assert report["interrupted"]
        assert report["statuses"] == []
        assert gone([int(pid) for pid in pids], 0.5)
    else:
        at_work.communicate(timeout=60)
    assert gone([int(pid) for pid in pids])
    assert len(pids) == 2


def test_without_the_token_nothing_is_done(as_node: Two, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began = time.monotonic()
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with pytest.raises(ClusterError, match="the cluster refuses this token"):
        ray_connection.connect(as_node.address, False, contextlib.ExitStack())
    assert time.monotonic() - began < 30
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match=r"(?s)no token in RAY_AUTH_TOKEN and none in .*get-auth-token --generate"):
        ray_connection.connect(as_node.address, False, contextlib.ExitStack())
    monkeypatch.delenv("RAY_AUTH_MODE")
    with pytest.raises(ClusterError, match="RAY_AUTH_MODE is not set, not token"):
        ray_connection.connect(as_node.address, False, contextlib.ExitStack())


def test_what_does_not_answer_is_reported_and_not_waited_for(as_node: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "REACH", 4.0)
    began = time.monotonic()
    with pytest.raises(ClusterError, match="nothing answers there"):
        ray_connection.connect(f"{HEAD}:{free_port()}", False, contextlib.ExitStack())
    with socket.create_server((HEAD, 0)) as mute:
        with pytest.raises(ClusterError, match="no Ray cluster answers there: no answer in 4 s"):
            ray_connection.connect(f"{HEAD}:{mute.getsockname()[1]}", False, contextlib.ExitStack())
    for wrong in ("head", "head:", ":1", "a:b", "ray://a:1"):
        with pytest.raises(ClusterError, match="HOST:PORT"):
            ray_connection.connect(wrong, False, contextlib.ExitStack())
    assert time.monotonic() - began < 30


def test_a_cell_is_lost_with_its_node_and_runs_again_on_the_other_once(two: Two, tmp_path: Path) -> None:
    """The last test with these two: one of them is dead afterwards."""
    given = methods(tmp_path, "a", "b", "c", hang=f"/{OTHER}/", seconds=1)
    at_work = driver(two, tmp_path, given)
    until = time.monotonic() + 90
    while not (hanging := [line for line in starts(tmp_path, 2) if len(line) == 3]) and time.monotonic() < until:
        time.sleep(0.05)
    ((tag, *pids),) = hanging
    two.kill(OTHER)
    assert gone([int(pid) for pid in pids])
    report = told(at_work)
    assert report["statuses"] == ["ok"] * 3
    assert sorted(report["starts"].values()) == [1, 1, 2]
    assert sorted(line[0] for line in starts(tmp_path, 4)) == sorted(["a", "b", "c", tag])
    assert len(report["told"]) == 1
    assert f"lost with node {OTHER} (NodeDiedError); it starts again elsewhere" in report["told"][0]
    store = Store(tmp_path / "results", warn=lambda text: pytest.fail(text))
    assert len(store.ids()) == 3
    assert set(store.ids()) == set(store.records()) == set(report["starts"])
    assert report["attempts"] == report["starts"]
    assert [row["accuracy"] is not None for row in points(tmp_path, given, [0])] == [True] * 6


def test_a_cluster_of_its_own_listens_on_loopback_alone(tmp_path: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given = methods(tmp_path, "a", "b")
    report = told(driver(Two(tmp_path, 0, bare), tmp_path, given, address="local"))
    assert report["statuses"] == ["ok"] * 2
    assert report["outside"] == []
    assert set(report["nodes"]) == {"127.0.0.1"}


def test_a_cluster_that_asks_for_no_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with nodes(RAY_AUTH_MODE="disabled") as bare:
        with pytest.raises(ClusterError, match="takes any token"):
            ray_connection.connect(bare.address, False, contextlib.ExitStack())
