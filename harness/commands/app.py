"""The verbs of ``eavit-bench``. Each reads a suite, does one thing and says where the result lies."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from harness.commands import options, output

MODULES = {  # of each verb, in the order of the help
    "plan": "plan",
    "run": "run",
    "status": "run",
    "init": "init",
    "check": "check_command",
    "why": "why",
    "report": "report",
    "figures": "report",
    "leaderboard": "report",
    "claims": "verdicts",
    "compare": "verdicts",
    "regress": "verdicts",
    "verify": "maintain",
    "merge": "maintain",
    "gc": "maintain",
    "list": "listing",
}


class Verbs(TyperGroup):
    """Imports the module of a verb when that is used, all for the help and to name the verb nearest to a wrong one."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for verb in [cmd_name] if cmd_name in MODULES else MODULES:
            if verb not in self.commands:
                module = import_module(f"harness.commands.{MODULES[verb]}")
                self.commands.update(get_group(module.verbs).commands)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Elastic Vision Transformers, compared.",
)


def main() -> None:
    """Run one verb. Faults that a person can mend are reported in a paragraph, without a traceback; exit code 2."""
    with output.protected():
        try:
            app()
        except Exception as error:
            if not isinstance(error, _faults()):
                raise
            output.complain(str(error))
            raise SystemExit(options.REFUSED) from None


def _faults() -> tuple[type[Exception], ...]:
    from harness.code_digest import CodeError
    from harness.commands.open_suite import OwnerError
    from harness.commands.why_points import NoPointError
    from harness.jobs.call import CallError
    from harness.jobs.ray_connection import ClusterError
    from harness.reports.reported_values import ReportedValueError
    from harness.results.cell_files import StoreError
    from harness.suite import SuiteError

    return (
        *(SuiteError, CodeError, OwnerError, options.CommandError, CallError, ClusterError),
        *(StoreError, NoPointError, ReportedValueError),
    )


def _version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("eavit-bench"))
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass
