"""A forecast as text: an aligned table, and the wall time of the run."""

from __future__ import annotations

from harness.forecast.forecast import ANOTHER_MACHINE, Forecast, PairForecast, Range

HEAD = ("method", "data set", "cells", "hits", "misses", "min", "TMACs", "MiB", "from")
MINUTE, TERA = 60.0, 1e12


def lines(forecast: Forecast) -> list[str]:
    """One line for each method and data set, their sum, the wall time, and how many cells are not in it."""
    cells, misses = sum(pair.cells for pair in forecast.pairs), sum(pair.misses for pair in forecast.pairs)
    rows = [HEAD, *map(_row, forecast.pairs), ("all", "", *_counts(cells, misses), "", *_sums(forecast), "")]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(_aligned(*cell) for cell in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    if not misses:
        return [*table, "nothing to run"]
    if forecast.seconds is not None:
        known = f"{misses - forecast.unknown} cells, {forecast.workers} at once"
        table.append(f"{known}: {_text(forecast.seconds, 1 / MINUTE)} minutes of wall time")
    if any(pair.each is not None and pair.each.source.startswith(ANOTHER_MACHINE) for pair in forecast.pairs):
        table.append("minutes from another machine were measured there; measure them here with plan --probe")
    if forecast.unknown:
        table.append(f"not included: {forecast.unknown} cells of unknown cost; measure them with plan --probe")
    return table


def _aligned(column: int, cell: tuple[str, int]) -> str:
    text, width = cell
    return text.rjust(width) if 1 < column < len(HEAD) - 1 else text.ljust(width)


def _row(pair: PairForecast) -> tuple[str, ...]:
    counts = (pair.method, pair.dataset, *_counts(pair.cells, pair.misses))
    if pair.each is None:
        return (*counts, "-", "-", "-", "-")
    spent = (_text(pair.each.seconds, pair.misses / MINUTE), _text(pair.each.macs, pair.misses / TERA))
    return (*counts, *spent, _text(pair.each.mib), pair.each.source)


def _counts(cells: int, misses: int) -> tuple[str, str, str]:
    return str(cells), str(cells - misses), str(misses)


def _sums(forecast: Forecast) -> list[str]:
    """MACs of all cells to run; disk of as many as run at once."""
    estimates = [pair.each for pair in forecast.pairs if pair.each is not None for _ in range(pair.misses)]
    macs = [estimate.macs.mid / TERA for estimate in estimates if estimate.macs is not None]
    mib = sorted((estimate.mib.mid for estimate in estimates if estimate.mib is not None), reverse=True)
    return [_short(sum(values)) if values else "?" for values in (macs, mib[: forecast.workers])]


def _text(value: Range | None, factor: float = 1.0) -> str:
    if value is None:
        return "?"
    low, mid, high = (_short(side * factor) for side in (value.low, value.mid, value.high))
    return mid if low == mid == high else f"{mid} ({low}–{high})"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 or number == 0 else f"{number:.2g}" if number < 10 else f"{number:.3g}"
