"""The verbs of ``eavit-bench``. Each reads a suite, does one thing and says where the result lies."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from harness.code_digest import CodeError
from harness.commands import check, listing, maintain, options, output, plan, report, run, verdicts, why
from harness.commands.options import CommandError
from harness.commands.owner import OwnerError
from harness.commands.why_points import NoPointError
from harness.jobs.call import CallError
from harness.jobs.ray_connection import ClusterError
from harness.reports.reported_values import ReportedValueError
from harness.results.cell_files import StoreError
from harness.suite import SuiteError

FAULTS = (
    *(SuiteError, CodeError, OwnerError, CommandError, CallError, ClusterError),
    *(StoreError, NoPointError, ReportedValueError),
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Elastic Vision Transformers, compared.",
)
for module in (plan, run, check, why, report, verdicts, maintain, listing):
    app.add_typer(module.verbs)


def main() -> None:
    """Run one verb. Faults that a person can mend are reported in a paragraph, without a traceback; exit code 2."""
    with output.protected():
        try:
            app()
        except FAULTS as error:
            output.complain(str(error))
            raise SystemExit(options.REFUSED) from None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("eavit-bench"))
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass
