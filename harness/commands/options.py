"""Options and exit codes of the command line, in groups that several verbs have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="Path of a suite file, or its name in suites/.")]
ResultsFolder = Annotated[Path, typer.Option(help="Folder of records and reports, with one folder for each suite.")]
Runs = Annotated[Path, typer.Option(help="Folder of logs, checkpoints and caches.")]
DataRoot = Annotated[Path | None, typer.Option("--data", help="Data root. Default: EAVIT_DATA, else ./data.")]
RESULTS, RUNS = Path("results"), Path("runs")

FAILED, REFUSED, OUT_OF_TIME = 1, 2, 3  # exit codes of the verbs
INTERRUPTED = 130  # as shells count a program ended by Ctrl-C


@dataclass(frozen=True)
class Where:
    """Folders that belong to a suite."""

    results: ResultsFolder = RESULTS
    runs: Runs = RUNS
    data: DataRoot = None


@dataclass(frozen=True)
class Which:
    """Cells to plan or run."""

    workers: Annotated[
        int | None, typer.Option("--workers", "-j", min=1, help="Cells at once. Default: cores / threads.")
    ] = None
    method: Annotated[list[str] | None, typer.Option(help="Only this method; may be repeated.")] = None
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set; may be repeated.")] = None
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; may be repeated.")] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False
    force: Annotated[bool, typer.Option("--force", help="Run finished cells again.")] = False
    only_missing: Annotated[
        bool,
        typer.Option("--only-missing", help="Run only cells without a record, not killed or skipped ones."),
    ] = False


@dataclass(frozen=True)
class CellLimits:
    """Limits of a run."""

    max_hours: Annotated[
        float | None, typer.Option(min=0.0, help="Stop after this time, with exit code 3; run again to continue.")
    ] = None
    memory_gib: Annotated[
        float | None, typer.Option(min=0.1, help="Memory of one cell. Default: the suite's, else the machine's.")
    ] = None
    disk_gib: Annotated[
        float | None, typer.Option(min=0.01, help="Disk of one cell while it runs. Default: the suite's.")
    ] = None


@dataclass(frozen=True)
class Machines:
    """Machines that run the cells."""

    engine: Annotated[Literal["local", "ray"], typer.Option(help="Run cells on this machine, or on a Ray cluster.")] = (
        "local"
    )
    address: Annotated[str | None, typer.Option(help="The Ray cluster: HOST:PORT, auto or local.")] = None
    insecure_cluster: Annotated[
        bool, typer.Option("--insecure-cluster", help="Accept a cluster that asks for no token.")
    ] = False


@dataclass(frozen=True)
class PointFilters:
    """Points of a table. Named as the columns of points.csv; empty: all."""

    method: Annotated[list[str] | None, typer.Option(help="Points of this method; may be repeated.")] = None
    dataset: Annotated[list[str] | None, typer.Option(help="Points of this data set; may be repeated.")] = None
    seed: Annotated[list[int] | None, typer.Option(help="Points of this seed; may be repeated.")] = None
    budget: Annotated[list[float] | None, typer.Option(help="Points of this budget, as 0.2; may be repeated.")] = None


class CommandError(ValueError):
    """Raised where a command cannot do what its options say."""


def with_option_groups(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb as typer takes it: a parameter that is a dataclass becomes one option for each of its fields."""
    parameters = _parameters(verb)
    groups: dict[str, Any] = {each.name: each.annotation for each in parameters if is_dataclass(each.annotation)}

    @wraps(verb)
    def flat(**words: object) -> None:
        made = {
            name: group(**{field.name: words.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        verb(**words, **made)

    options = [
        option for each in parameters for option in (_parameters(groups[each.name]) if each.name in groups else [each])
    ]
    flat.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in options}
    return flat


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())
