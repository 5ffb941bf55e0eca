"""Sphinx directives whose text comes from the code, so that a page can not go out of date.

- `method-cards`: the card of every method in `eavit.methods`.
- `command-help`: the help of a program's commands, as `--help` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import click
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.main import get_group

TEXTS = ("elastic", "step", "distillation", "selection")
LISTS = {"ours": "Not fixed by the source", "deviations": "Deviations from the source"}


class _Generated(SphinxDirective):
    """Directive that parses generated Markdown in its place."""

    def markdown(self) -> Iterator[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        container = nodes.container()
        text = StringList("\n".join(self.markdown()).splitlines(), source=self.get_source_info()[0])
        self.state.nested_parse(text, self.content_offset, container, match_titles=True)
        return container.children


class MethodCards(_Generated):
    """Cards of all methods of `eavit.methods`."""

    def markdown(self) -> Iterator[str]:
        from harness.plugins import describe_module

        for method in describe_module("eavit.methods"):
            yield from _card(method["name"], method["first"], method["card"])


class CommandHelp(_Generated):
    """Help of every command of a typer application, named by its import string."""

    required_arguments = 1

    def markdown(self) -> Iterator[str]:
        module, _, attribute = self.arguments[0].partition(":")
        app = getattr(import_module(module), attribute)
        group = app if isinstance(app, click.Group) else get_group(app)
        context = click.Context(group)
        for name in group.list_commands(context):
            yield from _help(name, group.get_command(context, name), context)


def _card(name: str, first: str, card: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## `{name}`", "", first, "")
    for key in ("title", "paper", "code"):
        if card.get(key):
            yield f"- **{key}**: {card[key]}"
    yield from (f"- **{key}**: {card[key]}" for key in TEXTS if card.get(key))
    yield ""
    if card.get("parameters"):
        yield from ("| parameter | value | set by |", "|---|---|---|")
        yield from (f"| {_cell(key)} | `{value}` | {source} |" for key, (value, source) in card["parameters"].items())
        yield ""
    for key, heading in LISTS.items():
        if card.get(key):
            yield from (f"{heading}:", "", *(f"- {line}" for line in card[key]), "")


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|")


def _help(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield from (f"## `{name}`", "", " ".join((command.help or "").split()), "")
    yield from ("| option | meaning | default |", "|---|---|---|")
    for parameter in command.get_params(context):
        names = [*parameter.opts, *parameter.secondary_opts]
        arguments = isinstance(parameter, click.Argument)
        label = f"`{parameter.metavar or parameter.human_readable_name}`" if arguments else f"`{' / '.join(names)}`"
        if parameter.name == "help":
            continue
        text = getattr(parameter, "help", None) or ""
        default = getattr(parameter, "default", None)
        shown = "" if default is None or callable(default) or default is False else f"`{default}`"
        yield f"| {label} | {_cell(text)} | {_cell(shown)} |"
    yield ""


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("method-cards", MethodCards)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
