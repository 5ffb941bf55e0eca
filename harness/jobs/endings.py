"""State of a job as seen from outside: how its process ended, and the progress that it reports."""

from __future__ import annotations

import signal
from pathlib import Path

from harness.jobs.files import LIMIT, UnreadableError, parse_json, read_regular
from harness.jobs.job import End, JobProgress

NO_SPACE = "No space left on device"
LAST_WORDS = 2000  # characters of a log in which a process says why it ends
NEWEST = 64 * 1024  # bytes of a progress file that are looked at


def describe_exit(code: int, log: str = "") -> tuple[End, str]:
    """Status and reason of a process that ended with ``code``, negative for a signal, and without a result."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    end = f"crashed with {name}" if code < 0 else f"exit code {code} without a result"
    if code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP):
        return "killed", f"killed from outside by {name}; memory may have run out"
    last = log[-LAST_WORDS:]
    if code and NO_SPACE in last:
        return "failed", f"disk: {NO_SPACE}; {end}"
    if code and ("std::bad_alloc" in last or "MemoryError" in last):
        return "oom", f"memory could not be allocated; {end}"
    return "failed", end


def read_progress(path: Path, start: int) -> tuple[int, JobProgress | None]:
    """Offset of the next complete line, and the newest line from ``start`` on, if it reports progress.

    The file may hold anything: what cannot be read is no progress.
    """
    try:
        size = path.lstat().st_size
        start = max(start, size - NEWEST)
        lines, newline, _ = read_regular(path, LIMIT, start=start).rpartition(b"\n")
    except (OSError, UnreadableError):
        return start, None
    following = start + len(lines) + len(newline)
    try:
        raw = parse_json(lines.rpartition(b"\n")[2], str(path))
        return following, JobProgress(str(raw["phase"])[:200], int(raw["done"]), int(raw["total"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return following, None
