"""Description of one cell: what its record says, the end of its log, and the command that runs it again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from harness.commands.open_suite import OpenSuite
from harness.jobs.job import JobFolder
from harness.plan import Cell
from harness.results.cell_files import Outcome, StoreError
from harness.results.record import AGAIN, USABLE, Record
from harness.results.store import Store

LINES = 25  # of a log that are shown


def describe_cell(opened: OpenSuite, word: str, records: Mapping[str, Record], repeated: Sequence[str] = ()) -> str:
    """A paragraph about the cell whose id begins with ``word``.

    ``records``: those that are kept without their cells; ``repeated``: options of every command on the suite.
    """
    store, planned = opened.store, {cell.id: cell for cell in opened.cells}
    id_ = find(word, {*planned, *records, *store.ids()}, str(store.root))
    outcome = store.read(id_)
    record = records.get(id_) if outcome is None else outcome.record
    text = _missing(id_, planned.get(id_)) if record is None else _finished(record)
    if record is not None and outcome is None:
        text += f"the cell itself is not in {store.root}: this is its line of records.jsonl\n"
    text += _at_work(store, id_) + _log(outcome, JobFolder(opened.runs / id_).log)
    if id_ in planned:
        return text + f"run it again: {command(planned[id_], opened.name, _switch(outcome), repeated)}\n"
    commit = "" if record is None else f"; at commit {record.environment.get('commit') or 'unknown'} it did"
    return text + f"run it again: {opened.name} does not name this cell any more{commit}\n"


def find(word: str, ids: Iterable[str], where: str) -> str:
    """The one id that begins with ``word``; StoreError with the nearest if none does, with all if several do."""
    known = sorted(ids)
    matches = [word] if word in known else [cell for cell in known if word and cell.startswith(word.lower())]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise StoreError(f"{where}: {len(matches)} cells begin with {word!r}: {', '.join(matches[:8])}")
    near = get_close_matches(word.lower(), known, n=3, cutoff=0.3) or known[:3]
    raise StoreError(f"{where}: no cell begins with {word!r}; nearest: {', '.join(near) or 'none, there are no cells'}")


def command(cell: Cell, suite: str, switch: Sequence[str], repeated: Sequence[str]) -> str:
    """Command for a shell that runs this one cell, and before it those that it needs and that are missing."""
    words = ["eavit-bench", "run", suite, "--method", cell.method, "--dataset", cell.dataset, "--seed", str(cell.seed)]
    return shlex.join([*words, *switch, *repeated])


def _switch(outcome: Outcome | None) -> list[str]:
    if outcome is None or outcome.record.status in AGAIN:
        return []  # it runs by itself
    return ["--force"] if outcome.record.status in USABLE else ["--retry-failed"]


def _missing(cell: str, planned: Cell | None) -> str:
    title = f"  {planned.title}" if planned is not None else ""
    return f"{cell}{title}\nstatus: missing: it was not run, or its files were damaged\n"


def _finished(record: Record) -> str:
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
        *_noise(about),
    ]
    return "\n".join(lines) + "\n"


def _noise(about: Mapping[str, Any]) -> list[str]:
    spread, disturbed = (about.get(f"latency_{name}") for name in ("spread", "disturbed"))
    if spread is None or disturbed is None:
        return []
    return [f"latency: the middle half of repeats is {spread:.1%} wide, {disturbed:.1%} of calls were interrupted"]


def _at_work(store: Store, cell: str) -> str:
    holder = store.locks.holder(cell)
    return "" if holder is None else f"{holder} works on it now\n"


def _log(outcome: Outcome | None, path: Path) -> str:
    """End of the log: of the outcome if it has one, for the file may be that of a later start."""
    text = outcome.log if outcome is not None else ""
    where = "its log"
    if not text:
        where = os.fspath(path)
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            return "log: none\n"
    lines = text.splitlines()
    if not lines:
        return "log: empty\n"
    head = f"log: the last {LINES} of {len(lines)} lines" if len(lines) > LINES else "log:"
    return "\n".join([f"{head} ({where})", *(f"  {line}" for line in lines[-LINES:])]) + "\n"
