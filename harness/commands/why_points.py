"""Points behind a number of a table: accuracies, cells, commits, and the command that makes them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from harness.commands.options import PointFilters
from harness.messages import choices
from harness.results.record import Record
from harness.tasks import ACCURACY, SCORES

if TYPE_CHECKING:
    import pandas as pd


class NoPointError(ValueError):
    """Raised where no point matches the filters; the message names the file, the filter and what there is."""


def select(points: pd.DataFrame, filters: PointFilters, where: str) -> pd.DataFrame:
    """The rows that match all filters; NoPointError where a word matches none, or all together match none."""
    selected = points
    for each in fields(PointFilters):
        allowed = list(dict.fromkeys(points[each.name]))
        for word in getattr(filters, each.name) or ():
            if word not in allowed:
                near = choices(_spelled(word), [_spelled(one) for one in allowed])
                raise NoPointError(f"{where}: --{each.name} {_spelled(word)}: no such point; {near}")
        if getattr(filters, each.name):
            selected = selected[selected[each.name].isin(getattr(filters, each.name))]
    if selected.empty:
        raise NoPointError(f"{where}: no result matches all filters together; each of them alone matches some")
    return selected


def _spelled(word: object) -> str:
    return f"{word:g}" if isinstance(word, float) else str(word)


def describe_points(points: pd.DataFrame, records: Mapping[str, Record], suite: str) -> str:
    """One line for each point, the mean as tables show it (of the data sets' means), and commands for a shell."""
    score = next(iter(points["score"].dropna()), ACCURACY)
    head = ("method", "data set", "budget", "seed", SCORES[score].title, "right", "submodel", "cell", "commit")
    table = [head, *(_line(row, records) for row in points.to_dict("records"))]
    widths = [max(len(line[at]) for line in table) for at in range(len(head))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([*lines, "", *_means(points), *_commands(points, suite)]) + "\n"


def _line(row: Mapping[Any, Any], records: Mapping[str, Record]) -> tuple[str, ...]:
    measured = row["accuracy"] == row["accuracy"]
    commit = records[row["cell"]].environment.get("commit") if row["cell"] in records else None
    return (
        row["method"],
        row["dataset"],
        f"{100 * row['budget']:g} %",
        str(row["seed"]),
        f"{100 * row['accuracy']:.2f} %" if measured else row["status"],
        f"{row['correct']:.0f} of {row['n']:.0f}" if row["correct"] == row["correct"] else "-",
        row["key"] if isinstance(row["key"], str) else "-",
        str(row["cell"]),
        str(commit or "unknown")[:12],
    )


def _means(points: pd.DataFrame) -> list[str]:
    lines = []
    measured = points.dropna(subset=["accuracy"])
    for (method, budget), here in measured.groupby(["method", "budget"], sort=False):
        means = here.groupby("dataset")["accuracy"].mean()
        of = "" if len(means) == 1 else f", mean of the means of {len(means)} data sets"
        lines.append(f"{method} at {100 * float(str(budget)):g} %: {100 * means.mean():.1f} %{of}")
    return lines


def _commands(points: pd.DataFrame, suite: str) -> list[str]:
    cells = points.drop_duplicates("cell")
    words = ["eavit-bench", "run", suite, "--force"]
    for column in ("method", "dataset", "seed"):
        words += [part for one in dict.fromkeys(cells[column]) for part in (f"--{column}", str(one))]
    return [
        f"all about one cell: {shlex.join(['eavit-bench', 'why', suite, str(cells['cell'].iloc[0])])}",
        f"run {'them' if len(cells) > 1 else 'it'} again, at the commit above: {shlex.join(words)}",
    ]
