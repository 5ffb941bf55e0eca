"""The leaderboard: one page that joins several suites, the main table of each with links to its own files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from harness.reports.document.blocks import Section
from harness.reports.page import charts
from harness.reports.page.page import policy, stylesheet, template

TITLE = "Results of all suites"
LINKS = {
    "report.html": "page with charts",
    "table.md": "all tables",
    "points.csv": "points",
    "pareto.svg": "fronts",
    "report.tex": "LaTeX",
    "figures/README.md": "figures",
}


@dataclass(frozen=True, slots=True)
class LeaderboardEntry:
    """One suite. ``facts``: what is complete, how its claims were judged; ``links``: text and relative address."""

    suite: str
    title: str
    methods: Sequence[str]
    facts: Sequence[str]
    numbers: Section | None
    links: Sequence[tuple[str, str]]


def links_of(folder: Path) -> list[tuple[str, str]]:
    """Links from beside the folder to the files that are there."""
    return [(text, f"{folder.name}/{name}") for name, text in LINKS.items() if (folder / name).is_file()]


def render_leaderboard(entries: Iterable[LeaderboardEntry]) -> bytes:
    entries = list(entries)
    methods = sorted({method for one in entries for method in one.methods})
    style = stylesheet()
    context = {
        "title": TITLE,
        "entries": entries,
        "looks": {method: charts.chart_look(at) for at, method in enumerate(methods)},
        "style": Markup(style),
        "policy": policy((), style),
    }
    return template("leaderboard.html.j2").render(**context).encode("utf-8")
