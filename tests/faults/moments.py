"""Processes told from all others that ever had their numbers: the number and the moment of the start."""

from __future__ import annotations

import psutil

from harness.jobs.processes import alive


def name(pid: int) -> str:
    return f"{pid}@{psutil.Process(pid).create_time()}"


def pid_of(named: str) -> int | None:
    """None: that process has ended."""
    number, _, moment = named.partition("@")
    try:
        found = number.isdigit() and alive(int(number)) and str(psutil.Process(int(number)).create_time()) == moment
        return int(number) if found else None
    except psutil.Error:
        return None
