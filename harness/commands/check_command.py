"""The verb check: of a suite, or of one plug-in that an import string names."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from harness import plan
from harness.commands import options
from harness.commands.check import check_suite
from harness.commands.check_plugin import check_plugin
from harness.commands.open_suite import open_suite
from harness.commands.options import CommandError, DataRoot, Where
from harness.commands.output import complain, warn
from harness.suite import IMPORT_STRING

verbs = typer.Typer()


@verbs.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|MODULE:NAME",
            help="A suite, or a plug-in of yours.",
        ),
    ],
    data: DataRoot = None,
    plugin_options: Annotated[str, typer.Option("--options", help="Options of MODULE:NAME, as JSON.")] = "{}",
    size: Annotated[int, typer.Option(min=1, help="Pixels of the images for a backbone or data set.")] = 24,
    channels: Annotated[str, typer.Option(metavar="1|3", help="Channels of these images.")] = "1",
) -> None:
    """Check what a suite names: imports, options, backbone, data. Exit code 1 if anything is wrong. With MODULE:NAME,
    try a method, backbone, data set, metric or selector of yours: does it keep the rules of its kind?
    """
    if IMPORT_STRING.fullmatch(name):
        _check_plugin(name, {"options": _parsed(plugin_options), "size": size, "channels": _one_or_three(channels)})
        return
    opened = open_suite(name, Where(data=data))
    checked = check_suite(opened.suite, name, with_data=True)
    for line in checked.notes:
        typer.echo(line)
    for line in checked.warnings:
        warn(line)
    for line in (*checked.fatal, *checked.losses):
        complain(line)
    if checked.fatal or checked.losses:
        raise typer.Exit(options.FAILED)
    typer.echo(f"{name}: no fault; {plan.count(opened.suite)} cells")


def _check_plugin(use: str, tried: dict[str, Any]) -> None:
    kind, verdicts = check_plugin(use, tried)
    typer.echo("\n".join([f"{use}: {kind}", *map(str, verdicts)]))
    failed = [each for each in verdicts if each.word == "FAILED"]
    if failed:
        complain(
            f"{use}: breaks {len(failed)} of {sum(each.word != 'note' for each in verdicts)} rules that were tried"
        )
        raise typer.Exit(options.FAILED)
    typer.echo(f"{use}: keeps all rules")


def _parsed(text: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"--options {text!r}: is no JSON: {error}") from None
    if not isinstance(table, dict):
        raise CommandError(f"--options {text!r}: must be a JSON object, such as '{{\"lr\": 0.01}}'")
    return table


def _one_or_three(text: str) -> Literal[1, 3]:
    if text not in ("1", "3"):
        raise CommandError(f"--channels {text}: must be 1 or 3")
    return 1 if text == "1" else 3
