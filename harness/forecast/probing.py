"""What cells will cost that have no record: each run with a few steps of training, and the rest extrapolated.

For every method and data set one short run, and for every method one that is shorter still: what differs between the
two grows with the schedule. Both run as real cells do, as many at once as in the run to come. No torch in this process.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.execution import engine
from harness.execution.children import Step
from harness.execution.engine import Settings
from harness.forecast.forecast import EACH, Estimate, Pair, Price, Range, estimate
from harness.forecast.history import Past, past_of, pasts
from harness.plan import Cell, digest
from harness.results import index, record
from harness.results.atomic import write_whole
from harness.results.record import USABLE, Record, Status
from harness.results.store import Store, StoreError
from harness.suite import Suite

VERSION = 1  # grows when what is kept in the cache means something else
ENTRY = "harness.forecast.probe"
SHORTER, SHORT = 8, 24  # steps; from 4 on every stage of ea_vit has steps, and each but the first takes some time
LIMIT = 10.0  # minutes after which a probe is given up
LEAST = 0.2  # relative half-width of every range
NEWEST, MOST = 8, 400  # records of other plans that are read: of one method on one set, and of all
BLIND = 0.5  # the same, where nothing that a method tells grows with its steps


@dataclass(frozen=True, slots=True)
class Trace:
    """The course of one short run: ``steps`` of the ``full`` schedule. ``calls``: (seconds, phase, done, total)."""

    steps: int
    full: int
    seconds: float
    mib: float
    calls: tuple[tuple[float, str, int, int], ...]
    books: tuple[tuple[int, float, float], ...] = ()  # of each ledger phase: steps, MACs, seconds

    @property
    def totals(self) -> dict[str, int]:
        return {phase: total for _, phase, _, total in self.calls}


def trace_of(kept: Record) -> Trace:
    told: Any = kept.diagnostics["probe"]
    books = tuple((s.steps, s.forward_macs + s.backward_macs, s.seconds) for s in kept.ledger.values())
    calls = tuple((float(at), str(phase), int(done), int(total)) for at, phase, done, total in told["calls"])
    return Trace(int(told["steps"]), int(told["full"]), told["seconds"], told["mib"], calls, books)


def growth(shorter: Trace, short: Trace) -> dict[str, float]:
    """Phases whose total grows with the steps, and the part of the total that does not.

    Names without their numbers: ``train-2-of-5`` of one data set may be ``train-2-of-4`` of another.
    """
    before, grown = shorter.totals, {}
    for phase, total in short.totals.items():
        if total <= before.get(phase, 0):
            continue
        exact = total * shorter.steps / short.steps
        rate = (total - before.get(phase, 0)) / max(1, short.steps - shorter.steps)
        grown[_plain(phase)] = 0.0 if abs(exact - before.get(phase, 0)) <= 1 else total - rate * short.steps
    return grown


def _plain(phase: str) -> str:
    return re.sub(r"\d+", "#", phase)


def extrapolate(trace: Trace, grown: Mapping[str, float], others: Sequence[Trace] = ()) -> Estimate:
    """The cost of the whole cell. ``others``: runs of the same cell that know more about steps and their MACs.

    A phase that grows costs its first and last step as they were (the first one warms up, the last one keeps a
    checkpoint) and for all between the mean of those seen; everything else counts in full, once.
    """
    factor = trace.full / trace.steps
    paces = {phase: _pace(steps) for phase, steps in _by_phase([trace, *others], grown).items()}
    typical = statistics.median([mean for mean, _ in paces.values()]) if paces else 0.0
    added, doubt = 0.0, 0.0
    for phase, total in trace.totals.items():
        if _plain(phase) in grown and factor > 1:
            fixed = grown[_plain(phase)]
            more = fixed + (total - fixed) * factor - total
            mean, error = paces.get(phase, (typical, typical))
            added, doubt = added + more * mean, doubt + more * error
    note, least = "", LEAST
    if not added and factor > 1:
        added = sum(seconds for steps, _, seconds in trace.books if steps) * (factor - 1)
        note = "by its ledger alone" if added else "no steps told"
        least = BLIND if added or not trace.books else LEAST
    seconds = trace.seconds + added
    return Estimate(_about(seconds, max(least, 2 * doubt / seconds)), *_spent(trace, others), "probe", note)


def _spent(trace: Trace, others: Sequence[Trace]) -> tuple[Range, Range]:
    """MACs and MiB. Ledger phases that count steps cost in proportion to them, the others once."""
    traces = [trace, *others]
    fixed = sum(macs for steps, macs, _ in trace.books if not steps)
    stepped = sum(macs for each in traces for steps, macs, _ in each.books if steps)
    growing = stepped / sum(each.steps for each in traces) * trace.full
    whole = trace.full == trace.steps
    macs = _about(fixed, 0.05).plus(_about(growing, 0.05 if whole else LEAST))
    # A stage that only one of the runs had brings files of its own, which do not grow.
    alike = [o for o in others if o.totals.keys() == trace.totals.keys() and o.steps < trace.steps]
    rates = [(trace.mib - o.mib) / (trace.steps - o.steps) for o in alike if trace.mib > 1.1 * o.mib]
    mib = trace.mib + max([0.0, *rates]) * (trace.full - trace.steps)
    return macs, _about(mib, LEAST)


def _about(mid: float, share: float) -> Range:
    return Range(mid * max(0.0, 1 - share), mid, mid * (1 + share))


def _by_phase(traces: Iterable[Trace], grown: Mapping[str, float]) -> dict[str, list[float]]:
    """Seconds a step of each growing phase, but for its first step, and the last one where there are others."""
    found: dict[str, list[float]] = {}
    last: dict[str, float] = {}
    for trace in traces:
        for phase, pace, ends in _intervals(trace):
            if _plain(phase) not in grown:
                continue
            if ends:
                last[phase] = pace
            else:
                found.setdefault(phase, []).append(pace)
    return {phase: [pace] for phase, pace in last.items()} | found


def _intervals(trace: Trace) -> Iterator[tuple[str, float, bool]]:
    """Phase, seconds a step, and whether it ends the phase, of each two calls in turn that belong together."""
    for (began, before, first, _), (ended, phase, done, total) in zip(trace.calls, trace.calls[1:], strict=False):
        if phase == before and done > first:
            yield phase, (ended - began) / (done - first), done >= total


def _pace(steps: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error. The mean, for steps of random submodels differ and their median says too little;
    but no step counts more than thrice the median, for the machine may have been elsewhere.
    """
    most = 3 * statistics.median(steps)
    cut = [min(step, most) for step in steps]
    mean = statistics.fmean(cut)
    return mean, statistics.stdev(cut) / math.sqrt(len(cut)) if len(cut) > 1 else mean / 2


def price_of(
    suite: Suite,
    cells: Sequence[Cell],
    todo: Collection[str],
    store: Store,
    runs: Path,
    workers: int,
    tell: Callable[[str], None] | None = None,
) -> Price:
    """The price of ``todo``, ids of ``cells``, which hold the needs of each: by the records of this store, then by
    those of its neighbours and by probes of before. ``tell`` hears of new probes; without it none are made.
    """
    missing = {(cell.method, cell.dataset) for cell in cells if cell.id in todo}
    near = {cell.id: cell.content for cell in cells if (cell.method, cell.dataset) in missing}
    past = {cell: past_of(kept, near[cell]) for cell, kept in store.summaries(near).items() if kept.status in USABLE}
    here = record.machine()
    price = estimate(cells, todo, past.values(), here, workers)
    if not price.unsure:
        return price
    past |= _neighbours(store, {method for method, _ in price.unsure})
    found = probe(suite, cells, runs, workers, tell, wanted=price.unsure)
    return estimate(cells, todo, past.values(), here, workers, found)


def _neighbours(store: Store, methods: Collection[str]) -> dict[str, Past]:
    """By id, the newest cells of ``methods``, by name, in this store and all beside it: other schedules, sets, code."""
    found: dict[Pair, list[tuple[str, Path, str]]] = {}
    for path in sorted(store.root.parent.glob("*/index.json")):
        for cell, entry in index.read(path).items():
            kept = entry.summary
            if kept.method in methods and kept.status in USABLE:
                found.setdefault((kept.method, kept.dataset), []).append((kept.finished, path.parent, cell))
    newest = [one for group in found.values() for one in sorted(group, reverse=True)[:NEWEST]]
    records = (_readable(Store(root, lambda text: None), cell) for _, root, cell in sorted(newest, reverse=True)[:MOST])
    return {one.cell: past for one in records if one is not None for past in pasts([one])}


def _readable(store: Store, cell: str) -> Record | None:
    try:
        return store.record(cell)
    except StoreError:  # of a newer program: no business of this plan
        return None


def probe(
    suite: Suite,
    cells: Sequence[Cell],
    runs: Path,
    workers: int,
    tell: Callable[[str], None] | None,
    *,
    wanted: Collection[Pair] | None = None,
    machine: str | None = None,
) -> dict[Pair, Estimate]:
    """Estimates for ``wanted`` methods and data sets of ``cells``, the whole plan; all of them if left out.

    What was found before on this machine with as many workers is in ``runs/.cache/probe``, and all there is without
    ``tell``. A probe that fails is an estimate without numbers, with its reason.
    """
    place = machine or record.machine()
    chosen: dict[Pair, Cell] = {}
    for cell in cells:
        pair = (cell.method, cell.dataset)
        if wanted is None or pair in wanted:
            chosen.setdefault(pair, cell)  # the first seed
    cache = runs / ".cache" / "probe"
    files = {pair: cache / f"{_key(cell, place, workers)}.json" for pair, cell in chosen.items()}
    found = {pair: kept for pair, file in files.items() if (kept := _recall(file)) is not None}
    fresh = [cell for pair, cell in chosen.items() if pair not in found]
    if fresh and tell is not None:
        for pair, estimate in _sounded(suite, cells, fresh, cache, workers, tell).items():
            found[pair] = estimate
            if estimate.seconds is not None:
                write_whole(files[pair], json.dumps(asdict(estimate)).encode())
    return found


def _key(cell: Cell, machine: str, workers: int) -> str:
    content = {name: value for name, value in cell.content.items() if name not in EACH}
    return digest([VERSION, SHORTER, SHORT, content, machine, workers])[:24]


def _recall(file: Path) -> Estimate | None:
    try:
        told = json.loads(file.read_bytes())
        ranges = [told[name] and Range(**told[name]) for name in ("seconds", "macs", "mib")]
        return Estimate(ranges[0], ranges[1], ranges[2], told["source"], told["note"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or written by something else: found again
        return None


def _sounded(
    suite: Suite, cells: Sequence[Cell], fresh: Sequence[Cell], folder: Path, workers: int, tell: Callable[[str], None]
) -> dict[Pair, Estimate]:
    short = _shortened(cells, fresh)
    first = {cell.method: cell for cell in reversed(fresh)}
    shorter = {cell.method: _with_steps(cell, SHORTER, short) for cell in first.values()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-", ignore_cleanup_errors=True) as scratch:
        store = Store(Path(scratch) / "store", tell)
        store.prepare()
        settings = Settings(
            runs=Path(scratch) / "runs", workers=workers, command=(sys.executable, "-m", ENTRY), entry=ENTRY, warn=tell
        )
        brief = suite.model_copy(update={"timeout_minutes": min(suite.timeout_minutes, LIMIT)})
        summary = engine.run(brief, [*short.values(), *shorter.values()], store, settings, _Teller(tell))
    if summary.interrupted:
        raise KeyboardInterrupt
    kept = summary.records
    grown, extra = dict[str, dict[str, float]](), dict[Pair, list[Trace]]()
    for method, cell in first.items():
        runs = [kept.get(one.id) for one in (shorter[method], short[cell.id])]
        traces = [trace_of(one) for one in runs if one is not None and one.status in USABLE]
        if len(traces) == 2:
            grown[method], extra[(method, cell.dataset)] = growth(*traces), traces[:1]
    return {
        (cell.method, cell.dataset): _judged(
            kept.get(short[cell.id].id), summary.lost.get(short[cell.id].id), grown.get(cell.method),
            extra.get((cell.method, cell.dataset), []),
        )
        for cell in fresh
    }  # fmt: skip


def _judged(
    kept: Record | None, lost: str | None, grown: Mapping[str, float] | None, others: Sequence[Trace]
) -> Estimate:
    if kept is None or kept.status not in USABLE:
        why = f"{kept.status}: {kept.reason}" if kept is not None else lost or "it did not run"
        return Estimate(None, None, None, "unknown", f"the probe gave nothing: {why}")
    return extrapolate(trace_of(kept), grown or {}, others)


def _shortened(cells: Sequence[Cell], fresh: Sequence[Cell]) -> dict[str, Cell]:
    """By the id of the real cell, in the order of the plan: short ones of ``fresh`` and of all that they need."""
    wanted = {cell.id for cell in fresh}
    for cell in reversed(cells):
        if cell.id in wanted:
            wanted.update(cell.needs)
    short: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in wanted:
            short[cell.id] = _with_steps(cell, SHORT, short)
    return short


def _with_steps(cell: Cell, steps: int, short: Mapping[str, Cell]) -> Cell:
    content = {**cell.content, "probe": {"steps": steps}}
    return replace(cell, id=digest(content)[:16], needs=tuple(short[need].id for need in cell.needs), content=content)


class _Teller:
    """One line a probe."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell, self.total, self.done = tell, 0, 0

    def begin(self, todo: Sequence[Cell], kept: int) -> None:
        self.total = len(todo)

    def start(self, cell: Cell) -> None: ...
    def step(self, cell: Cell, step: Step) -> None: ...
    def tick(self) -> None: ...

    def finish(self, cell: Cell, status: Status, seconds: float, reason: str) -> None:
        self.done += 1
        steps = cell.content["probe"]["steps"]
        what = f"{cell.method} · {cell.dataset}, {steps} steps" + ("" if status in USABLE else f": {status}: {reason}")
        self.tell(f"probe {self.done}/{self.total}: {what} ({seconds:.1f} s)")
