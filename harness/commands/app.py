"""The verbs of ``eavit-bench``. Each reads a suite, does one thing and says where the result lies."""

from __future__ import annotations

import ast
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from harness.commands import options, output


class Verb(NamedTuple):
    """A verb in the help: the module of its function, the group that it stands in, a command that uses it."""

    module: str
    group: str
    example: str


VERBS = {
    "plan": Verb("plan", "Run", "eavit-bench plan quick"),
    "run": Verb("run", "Run", "eavit-bench run quick --workers 2"),
    "status": Verb("run", "Run", "eavit-bench status quick"),
    "why": Verb("why", "Run", "eavit-bench why quick --method ea_vit --budget 0.2"),
    "report": Verb("report", "Report", "eavit-bench report quick --html"),
    "figures": Verb("report", "Report", "eavit-bench figures quick"),
    "leaderboard": Verb("report", "Report", "eavit-bench leaderboard quick rivals"),
    "claims": Verb("verdicts", "Judge", "eavit-bench claims quick"),
    "compare": Verb("verdicts", "Judge", "eavit-bench compare results/quick other/quick"),
    "regress": Verb("verdicts", "Judge", "eavit-bench regress results/quick --baseline old/quick"),
    "list": Verb("listing", "Write a suite", "eavit-bench list methods"),
    "init": Verb("init", "Write a suite", "eavit-bench init suite mine"),
    "check": Verb("check_command", "Write a suite", "eavit-bench check quick"),
    "verify": Verb("maintain", "Maintain", "eavit-bench verify quick"),
    "merge": Verb("maintain", "Maintain", "eavit-bench merge results/quick other/quick"),
    "restore": Verb("maintain", "Maintain", "eavit-bench restore quick"),
    "gc": Verb("maintain", "Maintain", "eavit-bench gc quick"),
}


class VerbGroup(TyperGroup):
    """Imports the module of the verb that is used, all to name the nearest to a wrong one, and none for the help."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for name in [cmd_name] if cmd_name in VERBS else VERBS:
            if name not in self.commands:
                module = import_module(f"harness.commands.{VERBS[name].module}")
                self.commands.update(get_group(module.verbs).commands)
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            command.epilog = f"Example: {VERBS[cmd_name].example}"
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        outlines: dict[str, Any] = {name: _outline(name, verb) for name, verb in VERBS.items()}
        TyperGroup(commands=outlines, params=self.params, help=self.help).format_help(ctx, formatter)


def _outline(name: str, verb: Verb) -> TyperCommand:
    """The verb as the help of all verbs shows it: the first sentence of its docstring, read and not imported."""
    tree = ast.parse((Path(__file__).parent / f"{verb.module}.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    texts = (ast.get_docstring(node) or "" for node in functions if _verb_of(node) == name)
    sentence = next(texts).partition(". ")[0].replace("\n", " ").rstrip(".")
    text = f"\b\n{sentence}.\n[dim]{verb.example}[/dim]"  # a backspace keeps the end of a line
    return TyperCommand(name, help=text, rich_help_panel=verb.group, rich_markup_mode="rich")


def _verb_of(function: ast.FunctionDef) -> str:
    """Name of the verb that a decorator ``@verbs.command`` makes of the function; "": of none."""
    for each in function.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "verbs.command":
            return str(ast.literal_eval(each.args[0])) if each.args else function.name
    return ""


app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare elastic Vision Transformers at equal compute.",
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
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
