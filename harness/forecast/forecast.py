"""What a plan will cost: minutes, training MACs and disk of each method on each data set, and the wall time of it all.

Pure: cells and past records in, a :class:`Price` out. An expectation is never made up: what neither the records of this
machine nor a probe (:mod:`harness.forecast.probing`) can tell is unknown, and says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from harness.execution.due import waiting
from harness.forecast.history import Past
from harness.forecast.makespan import makespan
from harness.plan import Cell, canonical

Source = Literal["records", "probe", "older records", "scaled", "unknown"]
Pair = tuple[str, str]  # method and data set, by name

EACH = ("seed", "needs")  # of a cell's content: what tells replicates apart
CODE = ("code", "counter", "protocol")  # what an edit of the code changes, and seldom the cost
SIZE = ("dataset", "data", "schedule")  # how much is trained on
FEW = 5  # values from which on smallest and largest are trusted almost as they are
OTHERS = (0.7, 1.4)  # widens seconds that were measured with more or fewer cells at once
EDITED = (0.8, 1.25)  # widens what other code took
ELSEWHERE = (0.6, 1.7)  # widens what was scaled from another data set or schedule
MIB, TERA = 2.0**20, 1e12


@dataclass(frozen=True, slots=True)
class Range:
    """An expectation, with bounds that it should hold between."""

    low: float
    mid: float
    high: float

    def times(self, factor: float) -> Range:
        return Range(self.low * factor, self.mid * factor, self.high * factor)

    def plus(self, other: Range) -> Range:
        return Range(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def widened(self, down: float, up: float) -> Range:
        return Range(self.low * down, self.mid, self.high * up)


START = Range(3.0, 6.0, 12.0)  # seconds, once a run: the imports that all cells share
BETWEEN = Range(0.1, 0.2, 0.4)  # seconds, each cell: fork, record, the engine's look at it


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one cell. ``mib``: largest size of its work folder. ``note``: what to know about the numbers, or why none."""

    seconds: Range | None
    macs: Range | None
    mib: Range | None
    source: Source
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One method on one data set. ``minutes``, ``macs``: of all its misses, one after another; ``mib``: of one cell."""

    method: str
    dataset: str
    cells: int
    hits: int
    misses: int
    minutes: Range | None
    macs: Range | None
    mib: Range | None
    source: Source | None  # None: nothing to run
    note: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """``minutes``: of wall time, of what is known; ``unknown`` cells are not in it. ``mib``: of all at work at once."""

    workers: int
    lines: tuple[Line, ...]
    minutes: Range | None
    macs: Range | None
    mib: Range | None
    unknown: int

    @property
    def unsure(self) -> frozenset[Pair]:
        """What a probe would tell better."""
        sure = {None, "records", "probe"}
        return frozenset((line.method, line.dataset) for line in self.lines if line.source not in sure)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def estimate(
    cells: Sequence[Cell],
    todo: Collection[str],
    past: Iterable[Past],
    machine: str | None,
    workers: int,
    probed: Mapping[Pair, Estimate] | None = None,
) -> Price:
    """The price of running ``todo``, ids of ``cells``, ``workers`` at once on ``machine``.

    Replicates of one plan share all but their seed, so one of them is priced for all.
    """
    missing = set(todo)
    groups: dict[Pair, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.method, cell.dataset), []).append(cell)
    book, lines, each = _Book(past, machine, workers), [], dict[str, Estimate]()
    for pair, group in groups.items():
        open_ones = [cell for cell in group if cell.id in missing]
        found = book.price(open_ones[0], (probed or {}).get(pair)) if open_ones else None
        lines.append(_line(pair, len(group), len(open_ones), found))
        if found is not None:
            each |= {cell.id: found for cell in open_ones}
    return _total(tuple(lines), [cell for cell in cells if cell.id in missing], each, workers)


def _line(pair: Pair, cells: int, misses: int, found: Estimate | None) -> Line:
    counts = (*pair, cells, cells - misses, misses)
    if found is None:
        return Line(*counts, None, None, None, None)
    minutes = found.seconds and found.seconds.times(misses / 60)
    return Line(*counts, minutes, found.macs and found.macs.times(misses), found.mib, found.source, found.note)


def _total(lines: tuple[Line, ...], todo: Sequence[Cell], each: Mapping[str, Estimate], workers: int) -> Price:
    seconds = {cell: found.seconds for cell, found in each.items() if found.seconds is not None}
    unknown = len(todo) - len(seconds)
    sizes = sorted((e.mib for e in each.values() if e.mib is not None), key=lambda size: -size.mid)
    minutes = wall([cell for cell in todo if cell.id in seconds], seconds, workers).times(1 / 60) if seconds else None
    return Price(workers, lines, minutes, _sum([line.macs for line in lines]), _sum(sizes[:workers]), unknown)


def _sum(ranges: Iterable[Range | None]) -> Range | None:
    known = [each for each in ranges if each is not None]
    if not known:
        return None
    return Range(*(sum(getattr(each, side) for each in known) for side in ("low", "mid", "high")))


class _Book:
    """Past cells, found again by what their cost depends on."""

    def __init__(self, past: Iterable[Past], machine: str | None, workers: int) -> None:
        self.past, self.machine, self.workers = list(past), machine, workers
        self._indices: dict[Callable[[Mapping[str, Any]], str], dict[str, list[Past]]] = {}

    def price(self, cell: Cell, probed: Estimate | None) -> Estimate:
        """The best there is, for each number on its own: MACs and disk are the same on every machine."""
        offers = [self._offer(self._replicates.get(_replicate(cell.content), []), "records", (1.0, 1.0))]
        if probed is not None:
            offers.append(probed)
        if all(offer.seconds is None for offer in offers):  # what follows costs time, and is worth less
            offers.append(self._offer(self._alike(cell, _recipe), "older records", EDITED))
            offers.append(self._offer(self._scaled(cell), "scaled", ELSEWHERE))
        timed = next((offer for offer in offers if offer.seconds is not None), None)
        macs = next((offer.macs for offer in offers if offer.macs is not None), None)
        mib = next((offer.mib for offer in offers if offer.mib is not None), None)
        if timed is not None:
            return Estimate(timed.seconds, macs, mib, timed.source, timed.note)
        why = probed.note if probed is not None else "no record of this machine"
        return Estimate(None, macs, mib, "unknown", why)

    def _alike(self, cell: Cell, key: Callable[[Mapping[str, Any]], str]) -> list[Past]:
        if key not in self._indices:
            index = self._indices[key] = dict[str, list[Past]]()
            for group in self._replicates.values():
                index.setdefault(key(group[0].identity), []).extend(group)
        return self._indices[key].get(key(cell.content), [])

    @cached_property
    def _replicates(self) -> dict[str, list[Past]]:
        groups: dict[str, list[Past]] = {}
        for each in self.past:
            groups.setdefault(_replicate(each.identity), []).append(each)
        return groups

    def _offer(self, alike: Sequence[Past], source: Source, widen: tuple[float, float]) -> Estimate:
        here = [each for each in alike if self.machine is not None and each.machine == self.machine]
        equal = [each for each in here if each.workers == self.workers]
        seconds, macs = around([each.seconds for each in equal or here], 0.25), around([e.macs for e in alike], 0.05)
        mib = around([each.mib for each in alike if each.mib is not None], 0.1)
        note = ""
        if seconds is not None and not equal:
            others = sorted({each.workers or 0 for each in here})
            seconds, note = seconds.widened(*OTHERS), f"with {' or '.join(str(n or '?') for n in others)} at once"
        wide = [each and each.widened(*widen) for each in (seconds, macs, mib)]
        return Estimate(wide[0], wide[1], wide[2], source, note)

    def _scaled(self, cell: Cell) -> list[Past]:
        """Cells of the same method on another data set or schedule, the part that counts steps scaled by images."""
        images = self._images(cell.content, None)
        found = []
        for each in self._alike(cell, _size_aside):
            before = self._images(each.identity, each.fit)
            if images and before and each.stepping is not None:
                more = images / before - 1
                seconds, macs = each.seconds + each.stepping * more, each.macs + each.step_macs * more
                found.append(Past(each.identity, seconds, macs, each.mib, each.machine, each.workers))
        return found

    def _images(self, content: Mapping[str, Any], fit: int | None) -> float | None:
        """Images that one training sees; None where no one knows how many the data set has."""
        known = fit or content["dataset"]["fit"] or self._fits.get(canonical(content["dataset"]))
        return content["schedule"]["epochs"] * known if known else None

    @cached_property
    def _fits(self) -> dict[str, int]:
        """How many images data sets have, by what past cells saw of them."""
        return {canonical(each.identity["dataset"]): each.fit for each in self.past if each.fit}


def _without(content: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


def _replicate(content: Mapping[str, Any]) -> str:
    return canonical(_without(content, EACH))


def _recipe(content: Mapping[str, Any]) -> str:
    return canonical(_without(content, (*EACH, *CODE)))


def _size_aside(content: Mapping[str, Any]) -> str:
    """The batch and the precision stay: seconds an image depend on them."""
    schedule = content.get("schedule", {})
    kept = _without(content, (*EACH, *CODE, *SIZE))
    return canonical({**kept, "batch": schedule.get("batch"), "precision": schedule.get("precision")})


def around(values: Sequence[float], slack: float) -> Range | None:
    """Median, smallest and largest, the latter two further out by ``slack`` for one value and by less for more."""
    if not values:
        return None
    out = slack if len(values) == 1 else slack / 2 if len(values) < FEW else slack / 5
    return Range(min(values) * (1 - out), statistics.median(values), max(values) * (1 + out))


def wall(todo: Sequence[Cell], seconds: Mapping[str, Range], workers: int) -> Range:
    """Seconds of wall time, imports included."""
    sides, urgency = [], waiting(todo)
    for side in ("low", "mid", "high"):
        between = getattr(BETWEEN, side)
        took = {cell.id: getattr(seconds[cell.id], side) + between for cell in todo}
        sides.append(getattr(START, side) + makespan(todo, took, urgency, workers))
    low, mid, high = sides
    return Range(min(low, mid), mid, max(mid, high))  # shorter cells may be scheduled worse


def lines(price: Price) -> list[str]:
    """An aligned table, a line for the whole, and one for what is not known."""
    head = ("method", "data set", "cells", "hits", "misses", "min", "TMACs", "MiB", "from")
    rows = [head, *(_row(line) for line in price.lines)]
    counts = [sum(getattr(line, name) for line in price.lines) for name in ("cells", "hits", "misses")]
    rows.append(("all", "", *map(str, counts), "", _text(price.macs, TERA), _text(price.mib, 1), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    numbers = range(2, len(head) - 1)
    told = [
        "  ".join(
            text.rjust(w) if i in numbers else text.ljust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [line.rstrip() for line in told] + _ending(price, counts[2])


def _row(line: Line) -> tuple[str, ...]:
    counts = (str(line.cells), str(line.hits), str(line.misses))
    where = f"{line.source}: {line.note}" if line.note else line.source or "-"
    spent = (_text(line.minutes, 1), _text(line.macs, TERA), _text(line.mib, 1)) if line.misses else ("-", "-", "-")
    return (line.method, line.dataset, *counts, *spent, where)


def _text(value: Range | None, unit: float) -> str:
    if value is None:
        return "?"
    low, mid, high = (_short(each / unit) for each in (value.low, value.mid, value.high))
    return mid if low == mid == high else f"{mid} ({low}–{high})"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 or number == 0 else f"{number:.2g}" if number < 10 else f"{number:.3g}"


def _ending(price: Price, misses: int) -> list[str]:
    if not misses:
        return ["nothing to run"]
    told = []
    if price.minutes is not None:
        what = f"{misses - price.unknown} cells, {price.workers} at once"
        told.append(f"{what}: {_text(price.minutes, 1)} minutes of wall time")
    if price.unknown:
        told.append(
            f"{price.unknown} cells unknown and not in these minutes: plan --probe measures a few steps of each"
        )
    return told
