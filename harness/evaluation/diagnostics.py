"""Diagnostics of a cell beside its points: the method's own report, and notes on what it left behind."""

from __future__ import annotations

import json
import threading
from typing import Any

from harness.evaluation.failures import error_message
from harness.messages import one_line
from harness.protocol import Adapted

NOTES = "notes"  # key in a record's diagnostics
MAX_BYTES, MAX_DEPTH = 2**20, 32  # of a report, as JSON


def method_report(adapted: Adapted) -> tuple[dict[str, Any], list[str]]:
    """Report of the method as JSON, and notes: a report that cannot be kept is dropped with a note."""
    try:
        report = getattr(adapted, "report", None)
        if report is None:
            return {}, []
        text = json.dumps(dict(report()), default=_plain, ensure_ascii=False).encode("utf-8", "replace")
        if len(text) > MAX_BYTES:
            raise ValueError(f"{len(text)} bytes of JSON; at most {MAX_BYTES} are kept")
        value = dict(json.loads(text, parse_constant=str))  # NaN and infinities have no JSON: kept as words
        if _depth(value) > MAX_DEPTH:
            raise ValueError(f"nested {_depth(value)} levels deep; at most {MAX_DEPTH} are kept")
        return value, []
    except (Exception, SystemExit) as error:
        return {}, [f"report() was dropped: {type(error).__name__}: {error_message(error)}"]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, children), default=0)


def running_threads() -> list[str]:
    """Note on threads that still run and would keep the process from ending; empty if there are none."""
    main = threading.main_thread()
    names = [one_line(repr(t.name), 100) for t in threading.enumerate() if not t.daemon and t is not main]
    return [f"{len(names)} thread(s) left running: {', '.join(names[:5])}"] if names else []
