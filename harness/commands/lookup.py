"""What lies behind a number of a table: the points it is the mean of, their cells, and how to make them again."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean

from harness.nearest import choices
from harness.results.record import Record

Row = Mapping[str, str]  # of points.csv


class BehindError(ValueError):
    """No such number: names the file, what was asked for, what there is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which points; empty: all. Named as the columns of points.csv."""

    method: Sequence[str] = ()
    dataset: Sequence[str] = ()
    seed: Sequence[int] = ()
    budget: Sequence[float] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


def read(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise BehindError(f"{path}: {error.strerror}; `eavit-bench run` writes it") from None


def select(rows: Sequence[Row], asked: Asked, where: str) -> list[Row]:
    """The rows asked for. BehindError with what there is, if a word matches none, or all together match none."""
    found = list(rows)
    for each in fields(Asked):
        words = [_spelled(word) for word in getattr(asked, each.name)]
        there = list(dict.fromkeys(_spelled(row[each.name]) for row in rows))
        for word in words:
            if word not in there:
                raise BehindError(f"{where}: --{each.name} {word}: no such point; {choices(word, there)}")
        found = [row for row in found if not words or _spelled(row[each.name]) in words]
    if not found:
        raise BehindError(f"{where}: no point is all of this; each word alone has some")
    return found


def _spelled(word: object) -> str:
    """0.20 and 0.2 are one budget."""
    try:
        return f"{float(str(word)):g}"
    except ValueError:
        return str(word)


def told(rows: Sequence[Row], kept: Mapping[str, Record], suite: str) -> str:
    """A line a point, the mean as tables show it (of the data sets' means), and commands to be pasted into a shell."""
    head = ("method", "data set", "budget", "seed", "accuracy", "right", "submodel", "cell", "commit")
    table = [head, *(_line(row, kept) for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(head))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([*lines, "", *_means(rows), *_commands(rows, suite)]) + "\n"


def _line(row: Row, kept: Mapping[str, Record]) -> tuple[str, ...]:
    measured = bool(row["accuracy"])
    commit = kept[row["cell"]].environment.get("commit") if row["cell"] in kept else None
    return (
        row["method"],
        row["dataset"],
        f"{100 * float(row['budget']):g} %",
        row["seed"],
        f"{100 * float(row['accuracy']):.2f} %" if measured else row["status"],
        f"{row['correct']} of {row['n']}" if measured else "-",
        row["key"] or "-",
        row["cell"],
        str(commit or "unknown")[:12],
    )


def _means(rows: Sequence[Row]) -> list[str]:
    lines = []
    for method, budget in dict.fromkeys((row["method"], row["budget"]) for row in rows):
        here = [row for row in rows if (row["method"], row["budget"]) == (method, budget) and row["accuracy"]]
        sets = dict.fromkeys(row["dataset"] for row in here)
        means = [mean(float(row["accuracy"]) for row in here if row["dataset"] == one) for one in sets]
        if means:
            of = "" if len(means) == 1 else f", mean of the means of {len(means)} data sets"
            lines.append(f"{method} at {100 * float(budget):g} %: {100 * mean(means):.1f} %{of}")
    return lines


def _commands(rows: Iterable[Row], suite: str) -> list[str]:
    cells = {row["cell"]: row for row in rows}
    words = ["eavit-bench", "run", suite, "--force"]
    for option, column in (("--method", "method"), ("--dataset", "dataset"), ("--seed", "seed")):
        words += [part for one in dict.fromkeys(row[column] for row in cells.values()) for part in (option, one)]
    return [
        f"all about one cell: {shlex.join(['eavit-bench', 'why', suite, next(iter(cells))])}",
        f"run {'them' if len(cells) > 1 else 'it'} again, at the commit above: {shlex.join(words)}",
    ]
