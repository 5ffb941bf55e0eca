"""Printing of the command line: tables, assumptions, a family's members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

from eavit.deploy.elastic import ElasticModel, MeasuredMember, Timed

COLUMNS = ("submodel", "budget", "MMACs", "params", "MiB", "activations", "ms", "accuracy", "95 % interval")


def say(text: str) -> None:
    typer.echo(text)


def show_assumptions(values: Mapping[str, Any]) -> None:
    """Print what was assumed, one line each."""
    say("assumed (each can be given):")
    for name, value in values.items():
        say(f"  {name}: {value}")


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in aligned columns, never wrapped: keys are there to be copied."""
    lines = [tuple(columns), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    say(title)
    for line in lines:
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show_members(
    title: str,
    elastic: ElasticModel,
    members: Sequence[MeasuredMember],
    profile: Timed | None = None,
    mark: MeasuredMember | None = None,
) -> None:
    """Print members with their sizes and accuracy; ``mark`` is the choice."""
    rows = []
    for member in members:
        sizes = elastic.sizes(member.submodel, profile)
        low, high = member.interval
        name = f"{member.submodel}{' <- choice' if member == mark else ''}"
        latency = f"{sizes['latency_ms']:.3g}" if "latency_ms" in sizes else "-"
        numbers = (f"{sizes['budget']:.3f}", f"{sizes['macs'] / 1e6:.2f}", f"{int(sizes['params']):,}")
        accuracy = (f"{member.accuracy:.1%}", f"{low:.1%} to {high:.1%}")
        rows.append((name, *numbers, f"{sizes['mib']:.2f}", f"{sizes['activation_mib']:.2f}", latency, *accuracy))
    show_table(title, COLUMNS, rows)
