"""One self-contained page of a suite's results: no request to anywhere, the same inputs give the same bytes.

Vega comes from vl-convert's own bundle and interprets its expressions, so the page's policy allows neither ``eval`` nor
any script, style or address that is not in the file. Everything that records say is data: escaped, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jinja2
import vl_convert
from markupsafe import Markup

from harness.reports.appearance import COLOURS, ON_DARK
from harness.reports.document.blocks import Group, Page, Section
from harness.reports.document.formatting import budget_text
from harness.reports.page import charts, page_data, provenance, sections
from harness.reports.report_data import ReportData
from harness.statistics import frames
from harness.suite import Suite
from harness.tasks import Score

TEMPLATES = Path(__file__).parent / "templates"
SIGNS = {"supported": "✓", "refuted": "✗", "undecided": "?"}
SCRIPTS = ("base.js", "charts.js", "details.js", "compare.js", "points.js", "start.js")


class JudgedClaim(NamedTuple):
    """A claim with its outcome, and what led to it."""

    outcome: str
    text: str
    id: str
    details: Sequence[str]


def render_page(data: ReportData, suite: Suite, tables: Page, claims: Sequence[JudgedClaim] | None = None) -> bytes:
    """``tables``: the report's, which stand on the page too; ``claims`` None: none are made."""
    named = page_data.names(suite, data.not_run)
    means = page_data.means(data, named)
    context = {
        **_heading(data, suite, named),
        "looks": {name: charts.chart_look(at) for name, at in zip(named.methods, named.looks, strict=True)},
        "metrics": _metrics(means, data.score),
        "groups": _groups(tables, sections.at_budgets(means, named)),
        "preamble": tables.points,
        "claims": claims,
        "signs": SIGNS,
        "ledger": sections.ledger(data.ordered_records, named.methods),
        "diagnostics": sections.diagnostics(data.ordered_records, named.methods),
        "failures": sections.failures(data, suite),
        "setup": provenance.setup(suite),
        "provenance": provenance.provenance(data.ordered_records),
    }
    style = stylesheet()
    code = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    scripts = (_bundle(), f'"use strict";(() => {{\n{code}}})();')
    embedded = _embedded(_data(data, suite, named, means))
    parts = {"data": embedded, "style": Markup(style), "scripts": [Markup(script) for script in scripts]}
    return template("page.html.j2").render(**context, **parts, policy=policy(scripts, style)).encode("utf-8")


def template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    settings: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.Undefined}
    environment = jinja2.Environment(loader=loader, autoescape=True, **settings)
    environment.filters |= {"numbered": lambda entries: list(enumerate(entries)), "plain": _plain}
    return environment.get_template(name)


def _plain(text: str) -> str:
    """Text of the report without its marks of Markdown, and without line ends between a number and its sign."""
    return re.sub(r"`|\*\*", "", text).replace(" %", "\u00a0%")


def _heading(data: ReportData, suite: Suite, named: page_data.Names) -> dict[str, Any]:
    seeds = sorted({int(seed) for seed in data.points["seed"]})
    notices = list(data.notices)
    if not data.points["status"].isin(frames.MEASURED).any():
        notices.append("No cell has succeeded: there is no number to show. What failed, and why, is listed below.")
    if len(seeds) == 1:
        notices.append("One seed: an interval over seeds cannot be given, and none is made up.")
    if data.absent:
        notices.append(f"points.csv lacks the columns {', '.join(data.absent)}: what depends on them is left out.")
    if not data.records:
        notices.append("No record is kept of these points: no ledger, no diagnostics, no provenance.")
    return {
        "title": suite.title or suite.name,
        "score": data.score,
        "suite": suite.name,
        "regime": suite.regime.replace("_", " "),
        "denominator": data.denominator.text,
        "seeds": seeds,
        "notices": notices,
        "methods": named.methods,
        "first": data.shown_first,
        "datasets": named.datasets,
        "budgets": [(at, budget_text(budget)) for at, budget in enumerate(named.budgets)],
    }


def _metrics(means: Sequence[page_data.Mean], score: Score) -> list[tuple[str, str]]:
    there = {mean.metric for mean in means}
    titles = page_data.metric_titles(score)
    return [(key, title) for key, title in titles.items() if key in there or key == "accuracy"]


def _groups(tables: Page, more: Sequence[Section]) -> dict[str, list[Section]]:
    groups: dict[str, list[Section]] = {group: [] for group in get_args(Group)}
    for section in (*tables.sections, *more):
        groups.setdefault(section.group, []).append(section)
    return groups


def _data(data: ReportData, suite: Suite, named: page_data.Names, means: Sequence[page_data.Mean]) -> dict[str, Any]:
    words = page_data.Words()
    points = page_data.ordered_points(data.points, named)
    content = {
        "methods": named.methods,
        "datasets": named.datasets,
        "budgets": named.budgets,
        "statuses": frames.STATUSES,
        "metrics": list(page_data.METRICS),
        "score": data.score.title,
        "run": f"eavit-bench run {suite.name}",
        "points": page_data.points_of(points, words),
        "cells": page_data.cells_of(points, data, words),
        "means": page_data.means_of(means, named, words),
        "compare": page_data.comparisons(data, named, words),
        "specs": charts.charts(named.looks, len(named.budgets), data.score.title),
        "theme": charts.THEME,
    }
    return {**content, "words": list(words.all)}


# --- safe to embed ----------------------------------------------------------------------------------------------------


def stylesheet() -> str:
    return f"{(TEMPLATES / 'page.css').read_text(encoding='utf-8')}\n{_colours()}"


def _colours() -> str:
    """The methods' colours as variables ``--c0`` and so on, on light and on dark."""
    light, dark = (" ".join(f"--c{at}: {c};" for at, c in enumerate(several)) for several in (COLOURS, ON_DARK))
    return f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


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


def policy(scripts: Sequence[str], style: str) -> str:
    allowed = " ".join(_hash(script) for script in scripts) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
