"""The program ``eavit``: its verbs, and faults that a person can mend as one paragraph with exit code 2."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer

from eavit.commands import adapt_command, deploy_commands, push_command
from eavit.extras import MissingExtraError

REFUSED = 2
FAULTS = (ValueError, OSError, MissingExtraError)  # the library's errors are ValueErrors, but for this one

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From pictures and a budget to a file: adapt, profile, choose, export, verify, push.",
)
app.command("adapt")(adapt_command.adapt_folder)
app.command("profile")(deploy_commands.profile_family)
app.command("choose")(deploy_commands.choose_member)
app.command("export")(deploy_commands.export_member)
app.command("verify")(deploy_commands.verify_folder)
app.command("push")(push_command.push_folder)


def main() -> None:
    """Run one verb."""
    try:
        app()
    except FAULTS as error:
        print(f"eavit: {error}", file=sys.stderr)
        raise SystemExit(REFUSED) from None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("eavit-bench"))
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass
