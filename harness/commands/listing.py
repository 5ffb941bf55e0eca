"""The verb list: what suites can name."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from importlib import metadata
from typing import Annotated, Any

import typer

from harness import suite
from harness.commands.options import CommandError
from harness.commands.public_functions import public_functions, table_keys
from harness.jobs.call import call
from harness.messages import choices

verbs = typer.Typer()
METHODS, BACKBONES, SELECTORS = "eavit.methods", "eavit.weights", "eavit.selection.selectors"
SETS = ("harness.data.published", "harness.data.hub", "harness.data.shards")
DEADLINE = 120.0  # seconds for importing a module of the library
WIDTH = 110  # of a card's lines


@verbs.command("list")
def show_list(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[methods|backbones|data|metrics|selectors]", help="Only these; methods with their cards."
        ),
    ] = None,
) -> None:
    """List methods, backbones, data sources, metrics and selectors that suites can name; `list methods` shows cards."""
    lists = {
        "methods": _methods,
        "backbones": _backbones,
        "data": _data,
        "metrics": _metrics,
        "selectors": _selectors,
    }
    if what is not None and what not in lists:
        raise CommandError(f"list {what}: unknown; {choices(what, list(lists))}")
    if what == "methods":
        typer.echo("\n\n".join(_with_card(each) for each in _described(METHODS)))
        return
    for name in lists if what is None else (what,):
        typer.echo("\n".join([f"{name}:", *lists[name](), *_installed(name)]))


def _installed(what: str) -> list[str]:
    """Import strings that installed packages offer by entry points of the group ``eavit_bench.methods`` and so on."""
    return [f"  {point.value}  ({point.name})" for point in metadata.entry_points(group=f"eavit_bench.{what}")]


def _methods() -> list[str]:
    named = [f"  {METHODS}:{each.name}  {each.first}".rstrip() for each in public_functions(METHODS)]
    return [*named, _own("method")]


def _backbones() -> list[str]:
    factories = [each for each in public_functions(BACKBONES) if "num_classes" in each.takes]
    return [f"  {BACKBONES}:{each.name}  {each.first}".rstrip() for each in factories]


def _data() -> list[str]:
    """Sources by name, and the functions that list published sets and folders of other forms."""
    sources = ", ".join(source for source in suite.SOURCES if source != "listing")
    sets = [f"  {module}:{each.name}  {each.first}".rstrip() for module in SETS for each in public_functions(module)]
    return [f"  {sources}", *sets, _own("dataset")]


def _metrics() -> list[str]:
    return [_own("metric")]


def _selectors() -> list[str]:
    """Names for the option `select` of methods, and where one's own come from."""
    known = {each.name: each.first for each in public_functions(SELECTORS)}
    return [*(f"  {name}  {known[name]}".rstrip() for name in table_keys(SELECTORS, "SELECTORS")), _own("selector")]


def _own(kind: str) -> str:
    """The line that says how to write one's own."""
    return f"  one of your own, as module:name: eavit-bench init {kind} NAME"


def _described(module: str) -> list[dict[str, Any]]:
    return list(call("harness.plugins:describe_module", module, DEADLINE))


def _with_card(method: Mapping[str, Any]) -> str:
    lines = [f"{METHODS}:{method['name']}", *([f"  {method['first']}"] if method["first"] else [])]
    return "\n".join(
        lines + [line for key, value in method["card"].items() if value for line in _card_rows(key, value)]
    )


def _card_rows(key: str, value: Any) -> list[str]:
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
