"""``eavit-bench``: the verbs. Each reads a suite, does one thing and says where the result lies."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from harness.execution.joining import ClusterError
from harness.plugins import PluginError
from harness.records.store import StoreError
from harness.reports.report import ReportError
from harness.suite import SuiteError
from harness.verbs import asking, judging, keeping, running, telling
from harness.verbs.asking import AskError
from harness.verbs.behind import BehindError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Elastic Vision Transformers, compared.",
)
for room in (running, telling, judging, keeping):
    app.add_typer(room.verbs)


def main() -> None:
    """The console script. What a person can mend is told in a paragraph, without a traceback; exit code 2."""
    sys.path.append(str(Path.cwd()))  # a suite may name a module that lies beside it
    try:
        app()
    except (SuiteError, StoreError, PluginError, AskError, BehindError, ClusterError, ReportError) as error:
        asking.complain(str(error))
        raise SystemExit(asking.REFUSED) from None
    except KeyboardInterrupt:
        raise SystemExit(asking.INTERRUPTED) from None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("eavit-bench"))
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


if __name__ == "__main__":
    main()
