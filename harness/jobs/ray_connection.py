"""Connections to Ray clusters: none without a token, and no waiting for what does not answer."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

REACH = 20.0  # seconds in which a cluster must answer
MIN_STORE = 80 * 2**20  # bytes: Ray wants at least 75 MiB of shared memory, jobs need next to none
LOOPBACK = "127.0.0.1"

TOKEN_HELP = """\
Ray runs whatever code it is sent, so a cluster is used only with a token that all its machines share:
  export RAY_AUTH_MODE=token        # on every machine, before `ray start` and before this command
  ray get-auth-token --generate     # once; copy ~/.ray/auth_token to the other machines (chmod 600)
On a network that only you can reach, an insecure cluster can be allowed."""


class ClusterError(ValueError):
    """Raised for a cluster that cannot be used, with what to do about it."""


def connect(address: str, insecure: bool, end: contextlib.ExitStack) -> Any:
    """The module ``ray``, connected. What undoes that is pushed on ``end``."""
    if address.startswith("ray://"):
        raise ClusterError(f"{address}: not through a Ray client: run this on a machine of the cluster, with HOST:PORT")
    private = end.enter_context(_private_cluster()) if address == "local" else {}
    if not insecure and not private:
        _check_token()
    if not private:
        _check_reach(address, insecure)
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise ClusterError(f"ray cannot be imported ({error}): pip install 'ray[default]'") from None
    if ray.is_initialized():
        raise ClusterError("this process is in a Ray cluster already")
    end.callback(ray.shutdown)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "namespace": "jobs"}
    try:
        ray.init(address=address, **quiet, **private)
    except Exception as error:  # Ray has many; all of them say what is wrong
        raise ClusterError(f"{address}: Ray cannot connect: {type(error).__name__}: {error}") from error
    outside = [node["NodeManagerAddress"] for node in ray.nodes() if private and node["NodeManagerAddress"] != LOOPBACK]
    if outside:
        raise ClusterError(f"local: Ray listens on {outside[0]} and not on loopback alone; it was ended")
    return ray


@contextlib.contextmanager
def _private_cluster() -> Iterator[dict[str, Any]]:
    """Arguments of ``ray.init`` for a cluster that it starts and ends, with a new token and on loopback only.

    Ray takes an outside address in place of 127.0.0.1 and then listens on all of them, unless it is instructed, by the
    variable below, that this system cannot be in a cluster.
    """
    with tempfile.TemporaryDirectory(prefix="jobs-", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32), encoding="ascii")
        wanted = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        before = {name: os.environ.pop(name, None) for name in (*wanted, "RAY_AUTH_TOKEN", "RAY_ADDRESS")}
        os.environ.update(wanted)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        try:
            yield {
                "include_dashboard": False,
                "num_cpus": cores,
                "object_store_memory": MIN_STORE,
                "_temp_dir": folder,
            }
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                os.environ.update({name: value} if value is not None else {})


def _check_token() -> None:
    if (mode := os.environ.get("RAY_AUTH_MODE", "")).lower() != "token":
        raise ClusterError(f"RAY_AUTH_MODE is {mode or 'not set'}, not token. {TOKEN_HELP}")
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not os.environ.get("RAY_AUTH_TOKEN") and not (file.is_file() and file.read_text(encoding="utf-8").strip()):
        raise ClusterError(
            f"RAY_AUTH_MODE=token, but there is no token in RAY_AUTH_TOKEN and none in {file}. {TOKEN_HELP}"
        )


def _check_reach(address: str, insecure: bool) -> None:
    """Raise ClusterError if nothing answers. Ray itself tries for minutes, and may end this process: a child asks."""
    where = []
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdigit():
            raise ClusterError(f"{address}: not HOST:PORT of a Ray head, nor auto or local")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise ClusterError(
                f"{address}: nothing answers there ({error}); is the head started, the port open?"
            ) from None
        where = ["--address", address]
    stranger, until = secrets.token_hex(32), time.monotonic() + REACH
    checks = [_health(where, changes) for changes in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": stranger})]
    answer, other = (_answer(one, until) for one in checks)
    if answer is not None and _refusal(answer):
        raise ClusterError(f"{address}: the cluster refuses this token: it was started with another. {TOKEN_HELP}")
    if answer is not None:
        raise ClusterError(f"{address}: no Ray cluster answers there: {answer}")
    if not insecure and not _refusal(other or ""):
        did = "takes any token, so anyone may run code on it" if other is None else f"does not refuse others: {other}"
        raise ClusterError(f"{address}: the cluster {did}. {TOKEN_HELP}")


def _refusal(answer: str) -> bool:
    return "auth" in answer.lower() and "token" in answer.lower()


def _health(where: list[str], changes: Mapping[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *where]
    return subprocess.Popen(
        command,
        env={**os.environ, **changes},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _answer(process: subprocess.Popen[str], until: float) -> str | None:
    """Output of the health check; None if the head of the cluster is well and took the token."""
    try:
        _, text = process.communicate(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no answer in {REACH:.0f} s"
    if "No module named" in text:
        return "ray is not installed: pip install 'ray[default]'"
    return None if process.returncode == 0 else text.strip()[-1000:] or f"exit code {process.returncode}"
