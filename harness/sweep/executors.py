"""Executors of the cells of a suite: this machine or a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.data.locations import PROJECT
from harness.jobs import fork_server
from harness.jobs.fork_server import ForkServer
from harness.jobs.local import LocalExecutor
from harness.suite import Suite
from harness.sweep.pending import Settings

if TYPE_CHECKING:
    from harness.jobs.ray_executor import RayExecutor

FORK = "EAVIT_FORK"  # a variable of the environment: 0 for fresh interpreters
OWN = ("eavit", "timm")  # packages that come with the bench; a stranger's is imported in the process of its own cell


def on_this_machine(suite: Suite, settings: Settings, server: ForkServer | None = None) -> LocalExecutor:
    """``server``: one that runs already and stays open; else, where a process can be forked, a new one."""
    fork = settings.fork and os.environ.get(FORK) != "0" and fork_server.available()
    if fork and server is None:
        server = ForkServer(preloaded(suite, settings.entry), settings.warn)
    return LocalExecutor(settings.runs, settings.workers, server=server, project=PROJECT)


def preloaded(suite: Suite, entry: str) -> list[str]:
    """The modules that may be imported before any cell: ours alone."""
    uses = [entry, suite.backbone.use, *sorted({method.use for method in suite.methods})]
    modules = dict.fromkeys(use.partition(":")[0] for use in uses)
    return [name for name in modules if name == entry.partition(":")[0] or name.partition(".")[0] in OWN]


def on_ray(
    address: str, suite: Suite, settings: Settings, *, insecure: bool, tell: Callable[[str], None]
) -> RayExecutor:
    from harness.jobs.ray_executor import RayExecutor

    return RayExecutor(
        address,
        settings.runs,
        suite.threads * suite.processes,
        insecure=insecure,
        distributions=("eavit-bench",),
        project=PROJECT,
        tell=tell,
    )
