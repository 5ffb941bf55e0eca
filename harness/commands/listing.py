"""The verbs that read what was kept and tell it: report, list, check."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from harness import plan, plugins, suite
from harness.commands import check as deep
from harness.commands import options
from harness.commands.options import DataRoot, ResultsFolder, SuiteName, complain
from harness.nearest import choices
from harness.reports import report as reports

verbs = typer.Typer()
METHODS = "eavit.methods"
WIDTH = 110  # of a card's lines


@verbs.command()
def report(
    name: SuiteName,
    results: ResultsFolder = options.RESULTS,
    html: Annotated[bool, typer.Option("--html", help="Also one self-contained page, report.html.")] = False,
) -> None:
    """Write tables and plots again, from what is kept in results/ alone."""
    given = options.load(name)
    forms = reports.EVERYTHING if html else reports.FIGURES
    folder = results / given.name
    options.refuse_changed(folder)
    options.show(reports.build(reports.read(folder, given), folder, given, options.suite_path(name), forms))


@verbs.command("list")
def show_list(
    what: Annotated[
        str | None, typer.Argument(metavar="[methods|backbones|data]", help="Only these, and more of them.")
    ] = None,
) -> None:
    """List the methods, backbones and data sources that suites can name; ``list methods`` with each method's card."""
    if what is not None and what not in _LISTS:
        raise options.AskError(f"list {what}: unknown; {choices(what, list(_LISTS))}")
    if what == "methods":
        typer.echo("\n\n".join(_with_card(*one) for one in plugins.cards(METHODS)))
        return
    for name in _LISTS if what is None else (what,):
        typer.echo("\n".join(_LISTS[name]()))


def _named(title: str, module: str, taking: str | None = None) -> list[str]:
    found = plugins.describe(module, taking)
    return [f"{title}:", *(f"  {module}:{name}" + (f"  {first}" if first else "") for name, first in found)]


_LISTS: dict[str, Callable[[], list[str]]] = {
    "methods": lambda: _named("methods", METHODS),
    "backbones": lambda: _named("backbones", "eavit.weights", "num_classes"),
    "data": lambda: ["data sources:", "  " + ", ".join(suite.SOURCES)],
}


def _with_card(name: str, first: str, card: Mapping[str, Any]) -> str:
    lines = [f"{METHODS}:{name}", *([f"  {first}"] if first else [])]
    return "\n".join(lines + [line for key, value in card.items() if value for line in _told(key, value)])


def _told(key: str, value: Any) -> list[str]:
    """One field of a card; parameters are ``name -> [value, who says so]``."""
    if isinstance(value, Mapping):
        items = [f"{name} = {_plainly(pair[0])}  ({pair[1]})" for name, pair in value.items()]
    elif isinstance(value, list):
        items = [str(item) for item in value]
    else:
        return _wrapped(f"{key}: {value}", "  ", "    ")
    return [f"  {key}:", *(line for item in items for line in _wrapped(item, "    - ", "      "))]


def _plainly(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False)


@verbs.command()
def check(name: SuiteName, data: DataRoot = None) -> None:
    """Check a suite to the bottom: imports, options, data. Tells all faults at once."""
    given = options.load(name, data)
    found = [*deep.faults(given, name), *deep.data_faults(given, name, typer.echo)]
    for fault in found:
        complain(fault.text)
    if found:
        raise typer.Exit(options.FAILED)
    typer.echo(f"{name}: no fault; {plan.count(given)} cells")
