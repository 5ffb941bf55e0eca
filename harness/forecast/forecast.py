"""Forecast of a plan: minutes, training MACs and disk of each method on each data set, and the wall time of it all.

Pure: cells and past costs in, a :class:`Forecast` out. Without a record or a probe of this machine those of others tell
the seconds, which is said; what nothing tells is unknown.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.forecast.history import PastCost
from harness.plan import Cell, canonical
from harness.suite import Schedule

START, BETWEEN = 6.0, 0.2  # seconds: once a run, for the imports that all cells share; and between two cells
ONE_RECORD = 0.25  # relative half-width of the range of seconds that one record gives; more records narrow it
UNEQUAL = 0.2  # added where something was not the same: the code, the schedule, the number of cells at once

MACHINES = 3.0  # another machine may be so many times slower or faster
ANOTHER_MACHINE = "another machine"


@dataclass(frozen=True, slots=True)
class Range:
    """An expected value between its bounds."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cost of one cell. ``mib``: largest size of its work folder. ``source``: of the seconds, or why there are none."""

    seconds: Range | None
    macs: Range | None
    mib: Range | None
    source: str


@dataclass(frozen=True, slots=True)
class PairForecast:
    """One method on one data set: number of cells, those to run, and the cost of one of these; None: nothing to run."""

    method: str
    dataset: str
    cells: int
    misses: int
    each: Estimate | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """``seconds``: wall time of the cells whose cost is known; ``unknown``: number of the others."""

    workers: int
    pairs: tuple[PairForecast, ...]
    seconds: Range | None
    unknown: int

    @property
    def uncertain(self) -> frozenset[tuple[str, str]]:
        """Methods and data sets, by name, whose cost a probe tells better."""
        sure = SOURCES[0].name
        return frozenset((p.method, p.dataset) for p in self.pairs if p.each and not p.each.source.startswith(sure))


def forecast(
    cells: Sequence[Cell],
    todo: Collection[str],
    past: Sequence[PastCost],
    machine: str | None,
    workers: int,
    fit: Mapping[str, int],
) -> Forecast:
    """Forecast of running ``todo``, ids of ``cells``, ``workers`` at once on ``machine``.

    ``fit``: images of the fit split by name of the data set. The seeds of a pair cost the same: one stands for all.
    """
    missing, history = set(todo), _History(past, machine, workers)
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.method, cell.dataset), []).append(cell)
    pairs, seconds = [], dict[str, Range]()
    for (method, dataset), group in groups.items():
        misses = [cell for cell in group if cell.id in missing]
        each = history.estimate(misses[0].content, fit.get(dataset)) if misses else None
        pairs.append(PairForecast(method, dataset, len(group), len(misses), each))
        if each is not None and each.seconds is not None:
            seconds |= dict.fromkeys((cell.id for cell in misses), each.seconds)
    known = [cell for cell in cells if cell.id in seconds]
    wall = wall_seconds(known, seconds, workers) if known else None
    return Forecast(workers, tuple(pairs), wall, len(missing) - len(known))


def wall_seconds(cells: Sequence[Cell], seconds: Mapping[str, Range], workers: int) -> Range:
    """Wall time of a run: each cell on the first free worker after the cells that it needs."""

    def makespan(side: str) -> float:
        free, ends = [START] * workers, dict[str, float]()
        for cell in sorted(cells, key=lambda cell: len(cell.needs) > 0):
            begin = max([heapq.heappop(free), *(ends.get(need, 0.0) for need in cell.needs)])
            ends[cell.id] = begin + BETWEEN + getattr(seconds[cell.id], side)
            heapq.heappush(free, ends[cell.id])
        return max(free)

    return Range(makespan("low"), makespan("mid"), makespan("high"))


@dataclass(frozen=True, slots=True)
class _Source:
    """Past cells that differ from the expected one in ``aside`` alone; ``scaled`` to the images that it is shown."""

    name: str
    aside: frozenset[str]
    slack: float
    scaled: bool = False

    def key(self, content: Mapping[str, Any]) -> str:
        flat = {**content, **content["schedule"]}
        return canonical({name: value for name, value in flat.items() if name not in self.aside})


_SEED = frozenset({"seed", "needs", "schedule"})  # the schedule's own keys stand beside the others
_CODE = _SEED | {"code", "counter", "protocol", "grid"}  # older records were not asked at a grid of budgets
_SIZE = _CODE | {"dataset", "data", *Schedule.model_fields} - {"batch", "precision"}  # seconds an image depend on these
SOURCES = (
    _Source("records", _SEED, 0.0),
    _Source("shorter or longer runs", _SEED | {"epochs"}, UNEQUAL, scaled=True),
    _Source("records of other code", _CODE, UNEQUAL),
    _Source("other data or schedule", _SIZE, 2 * UNEQUAL, scaled=True),
)


class _History:
    """Past costs on one machine, grouped by what the cost of a cell depends on."""

    def __init__(self, past: Sequence[PastCost], machine: str | None, workers: int) -> None:
        self.machine, self.workers = machine, workers
        self._groups = {source: _grouped(source, past) for source in SOURCES}

    def estimate(self, content: Mapping[str, Any], fit: int | None) -> Estimate:
        """The first source of each number: MACs and disk are the same on every machine."""
        images = content["schedule"]["epochs"] * fit if fit else None
        offers = [self._offer(source, content, images) for source in SOURCES]
        elsewhere = (self._elsewhere(source, content, images) for source in SOURCES)
        timed = next((offer for offer in (*offers, *elsewhere) if offer.seconds is not None), None)
        macs = next((offer.macs for offer in offers if offer.macs is not None), None)
        mib = next((offer.mib for offer in offers if offer.mib is not None), None)
        source = timed.source if timed else "unknown: no record"
        return Estimate(timed.seconds if timed else None, macs, mib, source)

    def _offer(self, source: _Source, content: Mapping[str, Any], images: float | None) -> Estimate:
        alike = self._groups[source].get(source.key(content), [])
        here = [each for each in alike if self.machine is not None and each.machine == self.machine]
        if source.scaled:
            alike = here = scaled(here, images)
        equal = [each for each in here if each.workers == self.workers]
        macs = _around([each.macs for each in alike], source.slack)
        mib = _around([each.mib for each in alike if each.mib is not None], source.slack)
        name, slack = source.name, source.slack
        if here and not equal:
            name += f", {' or '.join(sorted({str(each.workers or '?') for each in here}))} at once"
            slack += UNEQUAL
        timed = [each.seconds for each in equal or here]
        return Estimate(_around(timed, slack + ONE_RECORD / math.sqrt(len(timed) or 1)), macs, mib, name)

    def _elsewhere(self, source: _Source, content: Mapping[str, Any], images: float | None) -> Estimate:
        """Seconds of other machines, in wide bounds."""
        alike = self._groups[source].get(source.key(content), [])
        there = [each for each in alike if each.machine not in (None, self.machine)]
        timed = [each.seconds for each in (scaled(there, images) if source.scaled else there)]
        if not timed:
            return Estimate(None, None, None, source.name)
        seconds = Range(min(timed) / MACHINES, statistics.median(timed), max(timed) * MACHINES)
        return Estimate(seconds, None, None, f"{ANOTHER_MACHINE}: {source.name}")


def scaled(past: Iterable[PastCost], images: float | None) -> list[PastCost]:
    """Costs brought to ``images``: what is spent in steps grows along a line, all else stays."""
    known = [(each, each.images) for each in past if each.images]
    if images is None or not known:
        return []
    seconds = _slope([n for _, n in known], [each.step_seconds for each, _ in known])
    macs = _slope([n for _, n in known], [each.step_macs for each, _ in known])
    return [
        replace(each, seconds=each.seconds + seconds * (images - n), macs=each.macs + macs * (images - n))
        for each, n in known
    ]


def _slope(lengths: Sequence[float], values: Sequence[float]) -> float:
    """Growth with the length of a run: through the origin where all runs are of about the same length."""
    if max(lengths) < 2 * min(lengths):
        return sum(values) / sum(lengths)
    return max(0.0, statistics.linear_regression(lengths, values).slope)


def _around(values: Sequence[float], slack: float) -> Range | None:
    """Median; bounds lie ``slack`` outside of the smallest and the largest value."""
    if not values:
        return None
    return Range(min(values) * (1 - slack), statistics.median(values), max(values) * (1 + slack))


def _grouped(source: _Source, past: Sequence[PastCost]) -> dict[str, list[PastCost]]:
    groups: dict[str, list[PastCost]] = {}
    for each in past:
        groups.setdefault(source.key(each.content), []).append(each)
    return groups
