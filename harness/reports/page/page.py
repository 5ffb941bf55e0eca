"""One self-contained page of a suite's results: no request to anywhere, the same inputs give the same bytes.

Vega comes from vl-convert's own bundle and interprets its expressions, so the page's policy allows neither ``eval`` nor
any script, style or address that is not in the file. Everything that records say is data: escaped, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup

from harness.reports.document import blocks, formatting
from harness.reports.page import charts, page_data, provenance, sections
from harness.results import points
from harness.results.record import Record
from harness.statistics import frames
from harness.suite import Suite

if TYPE_CHECKING:
    from harness.reports.sanity import Rung
    from harness.reports.verdicts.claims import Verdict

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("base.js", "charts.js", "details.js", "compare.js", "points.js", "start.js")
NEEDED = ("method", "dataset", "seed", "budget", "status")
BESIDE = ("correct", "params", "latency_ms", "key", "reason", "classes")


class PageError(ValueError):
    """The points are no points: what every one of them needs is not there."""


def build(
    folder: Path,
    suite: Suite,
    planned: int,
    verdicts: Sequence[Verdict] | None = None,
    rungs: Sequence[Rung] | None = None,
    compared: Sequence[blocks.Section] = (),
) -> bytes:
    """From ``points.csv`` and, where they are there, ``records.jsonl`` and ``cards.json``.

    ``planned``: number of cells of the suite; ``verdicts`` None: no claims are made; ``rungs`` None: of the sanity
    ladder, only what made points suspicious is told; ``compared``: sections of the tables that the page has too.
    """
    found, absent = _points(folder / "points.csv")
    kept = folder / "records.jsonl"
    records = points.read_records(kept) if kept.is_file() else {}
    named = page_data.names(found, suite)
    order = {name: at for at, name in enumerate((*named.methods, *named.datasets))}
    told = sorted(records.values(), key=lambda r: (order.get(r.method, -1), order.get(r.dataset, -1), r.seed, r.cell))
    given = _Given(
        suite, page_data.ordered(found, named), named, told, planned, verdicts, rungs, absent, kept.is_file()
    )
    return _rendered(given, _cards(folder / "cards.json", told), compared).encode("utf-8")


@dataclass(frozen=True)
class _Given:
    suite: Suite
    points: pd.DataFrame
    named: page_data.Names
    records: Sequence[Record]
    planned: int
    verdicts: Sequence[Verdict] | None
    rungs: Sequence[Rung] | None
    absent: tuple[str, ...]  # columns
    recorded: bool

    @property
    def cells(self) -> tuple[tuple[str, str, int], ...]:
        suite = self.suite
        every = product([m.name for m in suite.methods], [d.name for d in suite.datasets], suite.seeds)
        return tuple(every)


def _points(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The points, and the columns they lack: what is absent is empty, and the page says so."""
    text = ("suite", "method", "dataset", "status", "key", "cell", "choice_hash", "reason")
    read = pd.read_csv(path, dtype=dict.fromkeys(text, "str"), keep_default_na=False, na_values=[""])
    lost = [column for column in NEEDED if column not in read]
    if lost:
        raise PageError(f"{path}: not a table of points, without the columns {', '.join(lost)}")
    absent = tuple(column for column in (*frames.NEEDED, *BESIDE) if column not in read)
    words = {column: pd.Series(pd.NA, index=read.index, dtype="str") for column in absent if column in text}
    values = {column: float("nan") for column in absent if column not in text}
    filled = read.assign(**words, **values)
    return filled.assign(suite=filled["suite"].fillna("")), absent


# --- the page -------------------------------------------------------------------------------------------------------


def _rendered(given: _Given, cards: Mapping[str, Mapping[str, Any]], compared: Sequence[blocks.Section]) -> str:
    chance = {name: 1 / count for name, count in frames.classes(given.points).items()}
    areas = frames.areas(given.points, chance) if len(given.points) else pd.DataFrame(columns=[*frames.CELL, "area"])
    means = page_data.means(given.points, areas, given.named)
    methods = given.named.methods
    context = {
        **_heading(given),
        "looks": [charts.look(at) for at in range(len(methods))],
        "methods": methods,
        "datasets": given.named.datasets,
        "budgets": [(at, formatting.share(budget)) for at, budget in enumerate(given.named.budgets)],
        "metrics": _metrics(means),
        "tables": sections.numbers(means, given.points, given.named.datasets),
        "bounds": _bounds(given),
        "compared": [one for one in compared if one.table is not None],
        "claims": None if given.verdicts is None else sections.verdicts(given.verdicts),
        "ledger": sections.ledger(given.records, methods),
        "ladder": [sections.ladder(given.points, methods), *sections.rungs(given.rungs or (), methods)],
        "diagnostics": sections.diagnostics(given.records, methods),
        "failures": provenance.failures(given.points, given.suite, given.cells),
        "unreachable": provenance.unreachable(given.points),
        "setup": provenance.setup(given.suite),
        "provenance": provenance.provenance(given.records) if given.records else [],
        "cells": provenance.cells(given.points),
        "cards": cards,
    }
    data = _data(given, areas, means)
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    code = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    scripts = (_bundle(), f'"use strict";(() => {{\n{code}}})();')
    parts = {"data": _embedded(data), "style": Markup(style), "scripts": [Markup(script) for script in scripts]}
    return _template().render(**context, **parts, policy=_policy(scripts, style))


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    settings: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.Undefined}
    room = jinja2.Environment(loader=loader, autoescape=True, **settings)
    room.filters |= {"numbered": lambda entries: list(enumerate(entries)), "parameters": _parameters, "hard": _hard}
    return room.get_template("page.html.j2")


def _hard(text: str) -> str:
    """No line ends between a number and its sign."""
    return text.replace(" %", "\u00a0%")


def _parameters(card: Mapping[str, Any], name: str) -> blocks.Table:
    pairs = {key: pair if isinstance(pair, list | tuple) else (pair, "") for key, pair in card["parameters"].items()}
    rows = [(str(key), str(pair[0]), " ".join(map(str, pair[1:]))) for key, pair in pairs.items() if pair]
    return blocks.prose(f"Parameters of {name}", ("parameter", "value", "source"), rows)


def _heading(given: _Given) -> dict[str, Any]:
    suite, found = given.suite, given.points
    denominator = frames.denominator(found, given.cells)
    seeds = sorted({int(seed) for seed in found["seed"]})
    measured = int(found["status"].isin(frames.MEASURED).sum())
    return {
        "title": suite.title or suite.name,
        "suite": suite.name,
        "regime": suite.regime.replace("_", " "),
        "denominator": denominator.text,
        "states": {"planned": given.planned, **denominator.states},
        "seeds": seeds,
        "measured": measured,
        "notices": _notices(given, denominator.planned, seeds, measured),
    }


def _notices(given: _Given, known: int, seeds: Sequence[int], measured: int) -> list[str]:
    told = []
    if not measured:
        told.append("No cell has succeeded: there is no number to show. What failed, and why, is listed below.")
    if len(seeds) == 1:
        told.append("One seed: an interval over seeds cannot be given, and none is made up.")
    if given.absent:
        told.append(f"points.csv lacks the columns {', '.join(given.absent)}: what depends on them is left out.")
    if not given.recorded:
        told.append("records.jsonl is not there: no ledger, no diagnostics, no provenance.")
    if known != given.planned:
        told.append(f"The plan has {given.planned} cells; the suite and its points together span {known}.")
    return told


def _metrics(means: Sequence[page_data.Mean]) -> list[tuple[str, str]]:
    there = {mean.metric for mean in means}
    return [(key, title) for key, (title, _) in sections.METRICS.items() if key in there or key == "accuracy"]


def _bounds(given: _Given) -> blocks.Table | None:
    full = frames.completed(given.points, given.cells)
    if full.empty or full["status"].isin((*frames.MEASURED, "unreachable")).all():
        return None
    return sections.bounds(given.points, given.named.methods, given.named.budgets, given.cells)


def _data(given: _Given, areas: pd.DataFrame, means: Sequence[page_data.Mean]) -> dict[str, Any]:
    words, named = page_data.Words(), given.named
    commits = {record.cell: record.environment.get("commit") for record in given.records}
    data = {
        "methods": named.methods,
        "datasets": named.datasets,
        "budgets": named.budgets,
        "statuses": frames.STATUSES,
        "metrics": [*page_data.AT_BUDGET, *page_data.OF_CELL],
        "run": f"eavit-bench run suites/{given.suite.name}.toml",
        "points": page_data.points_of(given.points, words),
        "cells": page_data.cells_of(given.points, areas, commits, words),
        "means": page_data.means_of(means, named, words),
        "compare": page_data.comparisons(given.points, named, words),
        "specs": charts.charts(len(named.methods), len(named.budgets)),
        "theme": charts.THEME,
    }
    return {**data, "words": list(words.all)}


def _cards(path: Path, records: Sequence[Record]) -> dict[str, Mapping[str, Any]]:
    """By method, from the file or else from what the records tell."""
    told = {r.method: r.diagnostics["card"] for r in records if isinstance(r.diagnostics.get("card"), Mapping)}
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    every = {**told, **(kept if isinstance(kept, Mapping) else {})}
    return {str(name): every[name] for name in sorted(every) if isinstance(every[name], Mapping)}


# --- safe to embed ----------------------------------------------------------------------------------------------------


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and their interpreter; takes some seconds, always gives the same text."""
    text = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    return f"(() => {{{text}}})();"


def _embedded(data: Mapping[str, Any]) -> Markup:
    """JSON in which no byte can end the script element or open a comment in it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _policy(scripts: Sequence[str], style: str) -> str:
    allowed = " ".join(_hash(script) for script in scripts)
    return f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
