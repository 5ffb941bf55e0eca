"""What the page says in tables: numbers by budget, verdicts, ledger, ladder. Plain texts; escaping is the template's.

The tables hold every number that the charts draw.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.reports.document.blocks import Block, Table, block, prose, table
from harness.reports.document.formatting import LONGEST, percent, prefixed, share, short, spread, text
from harness.results.record import Record
from harness.statistics import frames

if TYPE_CHECKING:
    from harness.reports.sanity import Rung
    from harness.reports.verdicts.claims import Verdict

OUTCOMES = {"supported": "✓", "refuted": "✗", "undecided": "?"}
METRICS = {
    "accuracy": ("Accuracy on the test split", percent),
    "use": ("MACs used, as a share of the budget", percent),
    "latency": ("Latency of one image, ms", short),
    "params": ("Parameters", prefixed),
    "area": ("Area: mean accuracy over log2 MACs", percent),
    "train_macs": ("Training MACs of a cell", prefixed),
    "train_seconds": ("Training seconds of a cell", short),
}


def numbers(means: Sequence[Any], points: pd.DataFrame, datasets: Sequence[str]) -> list[Table]:
    """One table a metric; ``means`` as facts gives them. Where there is no number, the states of the cells."""
    states = _states(points)
    tables = []
    for metric, (title, show) in METRICS.items():
        here = [mean for mean in means if mean.metric == metric]
        whole = metric in ("area", "train_macs", "train_seconds")
        if here:
            tables.append((_of_cells if whole else _at_budgets)(title, show, here, states, datasets))
    return tables


def _states(points: pd.DataFrame) -> dict[tuple[str, str, float], str]:
    """What stands beside a number or in its place, for example "2 oom"."""
    found: dict[tuple[str, str, float], str] = {}
    for key, group in frames.completed(points).groupby(frames.KEYS):
        counts = Counter(group["status"])
        every = counts["unreachable"] == len(group)
        words = [f"{counts[s]} {s}" for s in frames.STATUSES if s != "ok" and counts[s]]
        found[key] = "unreachable" if every else ", ".join(words)  # type: ignore[index]
    return found


def _at_budgets(title: str, show: Any, means: Sequence[Any], states: Any, datasets: Sequence[str]) -> Table:
    budgets = sorted({mean.budget for mean in means} | {key[2] for key in states})
    values = {(m.dataset, m.method, m.budget): spread(m.interval, show) for m in means}
    methods = list(dict.fromkeys([m.method for m in means] + [key[0] for key in states]))
    blocks: list[Block] = []
    for name in (None, *datasets) if any(mean.dataset is None for mean in means) else datasets:
        rows = []
        for method in methods:
            cells = []
            for budget in budgets:
                told = [values.get((name, method, budget), ""), states.get((method, name, budget), "")]
                there = sum((other, method, budget) in values for other in datasets)
                few = f"{there} of {len(datasets)} sets" if name is None else "–"
                cells.append(", ".join(word for word in told if word) or few)
            rows.append((method, *cells))
        blocks.append(block(f"mean over {len(datasets)} data sets" if name is None else name, rows))
    note = "Mean over seeds; in brackets half the 95 % interval over seeds, n/a where seeds or spread are too few."
    head = ("method", *map(share, budgets))
    return Table(head, tuple(blocks), note, caption=f"{title}, by budget")


def _of_cells(title: str, show: Any, means: Sequence[Any], states: Any, datasets: Sequence[str]) -> Table:
    columns = [*datasets, *([None] if any(mean.dataset is None for mean in means) else [])]
    values = {(m.method, m.dataset): spread(m.interval, show) for m in means}
    rows = [
        (method, *(values.get((method, name), "–") for name in columns))
        for method in dict.fromkeys(mean.method for mean in means)
    ]
    head = ("method", *("mean over sets" if name is None else name for name in columns))
    note = "Mean over seeds; in brackets half the 95 % interval."
    return table(head, rows, note, caption=f"{title}, by data set")


def bounds(points: pd.DataFrame, methods: Sequence[str], budgets: Sequence[float], planned: Any) -> Table | None:
    """What the mean over sets would be, whatever the cells without a number had given; None: none is missing."""
    chance = {name: 1 / count for name, count in frames.classes(points).items()}
    rows, at = [], {budget: points[points["budget"] == budget] for budget in budgets}
    for method in methods:
        found = [frames.worst_case(here, method, b, chance=chance, planned=planned) for b, here in at.items()]
        rows.append((method, *("–" if f is None else f"{percent(f[0])} to {percent(f[1])}" for f in found)))
    note = "Each absent number is guessing for the lower bound and 100 % for the upper; unreachable counts as guessing."
    caption = "Worst-case bounds of the mean accuracy over sets"
    return table(("method", *map(share, budgets)), rows, note, caption=caption)


# --- claims -------------------------------------------------------------------------------------------------------


def verdicts(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    return [
        {
            "outcome": one.outcome,
            "sign": OUTCOMES[one.outcome],
            "text": one.claim.text,
            "id": one.claim.id,
            "lines": [*_effect(one), *_rest(one)],
        }
        for one in found
    ]


def _effect(one: Verdict) -> list[str]:
    claim, found = one.claim, one.interval
    if found is None or found.estimate is None:
        return []
    first, second = (claim.a, claim.b) if claim.direction == "greater" else (claim.b, claim.a)
    where = f" at {share(claim.budget)}" if isinstance(claim.budget, float) else ""
    where = {"all": " at all budgets", "mean": ", mean of the budgets"}.get(str(claim.budget), where)
    units = {"accuracy": signed_points, "area": signed_points, "macs": prefixed, "train_macs": prefixed}
    show = units.get(claim.metric, short)
    span = f"interval n/a: {found.why}"
    if found.low is not None and found.high is not None:
        span = f"{found.level:.0%} interval {show(found.low)} to {show(found.high)}, {found.kind}"
    need = f" on at least {claim.at_least} sets" if claim.at_least is not None else ""
    return [
        f"{claim.metric.replace('_', ' ')}{where}, {first} minus {second}: {show(found.estimate)} ({span})",
        f"claimed{need}: above {show(claim.by)}; judged on {one.sets} sets with {one.seeds} seeds each",
    ]


def signed_points(value: float) -> str:
    return f"{100 * value:.2f} points".replace("-", "−")


def _rest(one: Verdict) -> list[str]:
    told = [f"not decided: {one.reason}"] if one.reason else []
    if one.needed is not None:
        count = "more than 100" if one.needed > 100 else str(one.needed)
        told.append(f"seeds a set that would decide it, if means and spreads stay: {count}")
    return [*told, *one.notes]


# --- cost and ladder ----------------------------------------------------------------------------------------------


def ledger(records: Sequence[Record], methods: Sequence[str]) -> Table | None:
    """Means over the cells that have the phase."""
    blocks: list[Block] = []
    for method in methods:
        mine = [record for record in records if record.method == method and record.ledger]
        phases = dict.fromkeys(phase for record in mine for phase in record.ledger)
        rows = [_spent(phase, [r.ledger[phase] for r in mine if phase in r.ledger]) for phase in phases]
        if mine:
            total = sum(record.train_macs for record in mine) / len(mine)
            seconds = sum(record.train_seconds for record in mine) / len(mine)
            rows.append(("all phases", str(len(mine)), "", "", "", "", prefixed(total), f"{seconds:.1f}"))
            blocks.append(block(method, rows))
    head = ("phase", "cells", "images", "steps", "forward MACs", "backward MACs", "MACs", "seconds")
    note = "Mean of a cell, which trains for all its budgets together. Seconds are those of the machine that ran it."
    return Table(head, tuple(blocks), note, caption="Cost of adaptation by phase") if blocks else None


def _spent(phase: str, spent: Sequence[Any]) -> tuple[str, ...]:
    def mean(key: str) -> float:
        return float(sum(getattr(one, key) for one in spent) / len(spent))

    forward, backward = mean("forward_macs"), mean("backward_macs")
    work = map(prefixed, (forward, backward, forward + backward))
    return (phase, str(len(spent)), f"{mean('images'):,.0f}", f"{mean('steps'):,.0f}", *work, f"{mean('seconds'):.1f}")


def ladder(points: pd.DataFrame, methods: Sequence[str]) -> Table:
    """Of every method: cells that were looked at, those with a failed rung, and why."""
    rows = []
    for method in methods:
        mine = points[points["method"] == method]
        measured = mine[mine["status"].isin(frames.MEASURED)]
        odd = measured[measured["status"] == "suspicious"]
        why = Counter(f"{r['dataset']}: {text(r['reason']) or 'no reason kept'}" for r in odd.to_dict("records"))
        told = "; ".join(f"{reason} ({count})" for reason, count in sorted(why.items()))[: 3 * LONGEST]
        cells = measured.groupby(["dataset", "seed"]).ngroups
        state = (
            f"suspicious: {len(odd)} of {len(measured)} points"
            if len(odd)
            else "nothing suspicious"
            if cells
            else "not run"
        )
        rows.append((method, str(cells), state, told or "–"))
    return prose("Suspicious cells", ("method", "cells measured", "verdict", "why"), rows)


def rungs(found: Sequence[Rung], methods: Sequence[str]) -> list[Table]:
    """The ladder rung by rung: counts of outcomes by method, then every rung that failed."""
    if not found:
        return []
    names, counts = (
        list(dict.fromkeys(rung.name for rung in found)),
        Counter((r.name, r.method, r.outcome) for r in found),
    )
    outcomes = list(dict.fromkeys(rung.outcome for rung in found))
    rows = []
    for name in names:
        told = [", ".join(f"{n} {o}" for o in outcomes if (n := counts[name, method, o])) or "–" for method in methods]
        rows.append((name, *told))
    tables = [prose("Sanity ladder, in cells", ("rung", *methods), rows)]
    failed = [
        (r.name, r.method, r.dataset, str(r.seed), "all" if r.budget is None else share(r.budget), text(r.why))
        for r in found
        if r.outcome == "failed"
    ]
    head = ("rung", "method", "data set", "seed", "budget", "why")
    return [*tables, prose("Rungs that failed", head, failed)] if failed else tables


def diagnostics(records: Sequence[Record], methods: Sequence[str]) -> Table | None:
    """What methods told of themselves: means of numbers, sizes of lists, texts."""
    blocks: list[Block] = []
    for method in methods:
        found: dict[str, list[Any]] = defaultdict(list)
        for record in records:
            if record.method == method:
                for key, value in _flat(record.diagnostics):
                    found[key].append(value)
        rows = tuple((key, str(len(values)), _told(values)) for key, values in sorted(found.items())[:60])
        if rows:
            blocks.append(block(method, rows))
    head = ("what", "cells", "mean (range), or values")
    return Table(head, tuple(blocks), left=len(head), caption="Diagnostics") if blocks else None


def _flat(value: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and key != "card":
            yield from _flat(inner, f"{before}{key} ")
        elif key != "card":
            yield f"{before}{key}", inner


def _told(values: Sequence[Any]) -> str:
    some = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(some) == len(values):
        low, high = min(some), max(some)
        middle = f"{sum(some) / len(some):.4g}"
        return middle if low == high else f"{middle} ({low:.4g} to {high:.4g})"
    if all(isinstance(value, list) for value in values):
        sizes = sorted({len(value) for value in values})
        return f"{sizes[0]} to {sizes[-1]} entries" if len(sizes) > 1 else f"{sizes[0]} entries"
    return "; ".join(sorted({str(value)[:LONGEST] for value in values})[:5])
