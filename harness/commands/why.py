"""Why a cell is as it is: what its record says, the end of its log, and the command that runs it again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from harness.jobs.job import JobFolder
from harness.plan import Cell
from harness.results.record import AGAIN, USABLE, Record
from harness.results.store import Outcome, Store, StoreError

LINES = 25  # of a log that are shown


def why(
    store: Store,
    word: str,
    planned: Iterable[Cell],
    runs: Path,
    suite: str,
    how: Sequence[str] = (),
    kept: Mapping[str, Record] = MappingProxyType({}),
) -> str:
    """A paragraph about the cell whose id begins with ``word``.

    ``planned``: the cells of ``suite``, which is named here as on the command line; ``how``: what else a command on it
    has to say, such as ``["--results", "elsewhere"]``; ``kept``: records that are there without their cells.
    """
    cells = {cell.id: cell for cell in planned}
    found = find(word, {*cells, *kept, *store.ids()}, str(store.root))
    outcome = store.read(found)
    record = kept.get(found) if outcome is None else outcome.record
    text = _missing(found, cells.get(found)) if record is None else _there(record)
    if record is not None and outcome is None:
        text += f"the cell itself is not in {store.root}: this is its line of records.jsonl\n"
    text += _at_work(store, found) + _log(outcome, JobFolder(runs / found).log)
    if found in cells:
        return text + f"run it again: {command(cells[found], suite, _switch(outcome), how)}\n"
    where = "" if record is None else f"; it did at commit {record.environment.get('commit') or 'unknown'}"
    return text + f"run it again: {suite} names no such cell any more{where}\n"


def find(word: str, ids: Iterable[str], where: str) -> str:
    """The one id that begins with ``word``; StoreError with the nearest if none does, with all if more do."""
    known = sorted(ids)
    found = [word] if word in known else [cell for cell in known if word and cell.startswith(word.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise StoreError(f"{where}: {len(found)} cells begin with {word!r}: {', '.join(found[:8])}")
    near = get_close_matches(word.lower(), known, n=3, cutoff=0.3) or known[:3]
    raise StoreError(f"{where}: no cell begins with {word!r}; nearest: {', '.join(near) or 'none, there are no cells'}")


def command(cell: Cell, suite: str, switch: Sequence[str], how: Sequence[str]) -> str:
    """To be pasted into a shell: it runs this one cell, and before it those that it needs and that are not there."""
    words = ["eavit-bench", "run", suite, "--method", cell.method, "--dataset", cell.dataset, "--seed", str(cell.seed)]
    return shlex.join([*words, *switch, *how])


def _switch(outcome: Outcome | None) -> list[str]:
    if outcome is None or outcome.record.status in AGAIN:
        return []  # it runs by itself
    return ["--force"] if outcome.record.status in USABLE else ["--retry-failed"]


def _missing(cell: str, planned: Cell | None) -> str:
    title = f"  {planned.title}" if planned is not None else ""
    return f"{cell}{title}\nstatus: missing: it has not been run, or what was kept of it was damaged\n"


def _there(record: Record) -> str:
    about = record.environment
    times = f"{record.attempts} attempt{'s' if record.attempts != 1 else ''}"
    place = f"machine {about.get('machine') or 'unknown'}, commit {about.get('commit') or 'unknown'}"
    used = [
        f"{amount:.0f} MiB of {what}"
        for amount, what in ((record.peak_mib, "memory"), (record.disk_mib, "disk"))
        if amount is not None
    ]
    lines = [
        f"{record.cell}  {record.title}",
        f"status: {record.status}" + (f": {record.reason}" if record.reason else ""),
        *(
            f"  budget {point.budget:g}: {point.status}: {point.reason}"
            for point in record.points
            if point.reason and point.reason != record.reason
        ),
        f"when: {record.started} to {record.finished}, {record.seconds:.1f} s, {times}",
        "where: " + ", ".join([place, *used]),
    ]
    return "\n".join(lines) + "\n"


def _at_work(store: Store, cell: str) -> str:
    holder = store.locks.holder(cell)
    return "" if holder is None else f"{holder} works on it now\n"


def _log(outcome: Outcome | None, path: Path) -> str:
    """Of the record if it has one: what lies in ``runs`` may be of a later start."""
    text = outcome.log if outcome is not None else ""
    where = "its log"
    if not text:
        where = os.fspath(path)
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            return "log: none was kept\n"
    lines = text.splitlines()
    if not lines:
        return "log: empty\n"
    head = f"log: the last {LINES} of {len(lines)} lines" if len(lines) > LINES else "log:"
    return "\n".join([f"{head} ({where})", *(f"  {line}" for line in lines[-LINES:])]) + "\n"
