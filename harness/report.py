"""The report of a suite, from ``points.csv`` alone: one table, and the plots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.suite import Suite
from harness.whole import write_whole


class ReportError(ValueError):
    """There is nothing to report on, or it is not what this program wrote."""


@dataclass(frozen=True)
class Built:
    text: str
    files: tuple[Path, ...]


def build(folder: Path, suite: Suite, planned: int) -> Built:
    """Write ``table.md`` and the plots into ``folder``; each replaces the old one as a whole."""
    from harness import plots, stats, tables  # pandas and matplotlib take a second that other verbs need not wait for

    path = folder / "points.csv"
    try:
        rows = stats.read_points(path)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: {error}; `eavit-bench run` writes it") from None
    title = suite.title or suite.name
    chance = {str(name): 1 / float(classes) for name, classes in stats.classes(rows).items()}
    text = tables.markdown(rows, title, regime=suite.regime, planned=planned, chance=chance)
    write_whole(folder / "table.md", text.encode("utf-8"))
    return Built(text, (folder / "table.md", *plots.pareto(rows, folder, title)))
