"""``eavit-bench``: the verbs. Each reads a suite, does one thing and says where the result lies."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from harness.code_digest import CodeError
from harness.commands import listing, options, plan, run, stores, verdicts
from harness.commands.lookup import BehindError
from harness.commands.options import AskError
from harness.execution.joining import ClusterError
from harness.plugins import PluginError
from harness.reports.report import ReportError
from harness.results.store import StoreError
from harness.suite import SuiteError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Elastic Vision Transformers, compared.",
)
for room in (plan, run, listing, verdicts, stores):
    app.add_typer(room.verbs)


def main() -> None:
    """The console script. What a person can mend is told in a paragraph, without a traceback; exit code 2."""
    sys.path.append(str(Path.cwd()))  # a suite may name a module that lies beside it
    try:
        app()
    except (SuiteError, CodeError, StoreError, PluginError, AskError, BehindError, ClusterError, ReportError) as error:
        options.complain(str(error))
        raise SystemExit(options.REFUSED) from None
    except KeyboardInterrupt:
        raise SystemExit(options.INTERRUPTED) from None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("eavit-bench"))
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


if __name__ == "__main__":
    main()
