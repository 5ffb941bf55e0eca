"""Selectors on equal weights, from records alone: does what they trusted agree with submodels trained alone?

Reads the diagnostics of two recipes: ``choices`` (budget -> key, fold_a, fold_b) and ``weights`` of each selector,
``alone`` (key -> fold_b) of the one that trained what they chose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

from harness.records.record import Record
from harness.statistics import agreement, intervals

Where = tuple[str, int]  # data set, seed


def markdown(records: Iterable[Record]) -> str:
    """Two tables: one row a selector, one row a data set. Regret in points of accuracy, by fold B."""
    alone: dict[Where, Mapping[str, Any]] = {}
    chosen: dict[str, dict[Where, Mapping[str, Any]]] = defaultdict(dict)
    evaluations: dict[str, list[float]] = defaultdict(list)
    weights: dict[Where, set[str]] = defaultdict(set)
    for record in records:
        where, told = (record.dataset, record.seed), record.diagnostics
        if isinstance(found := told.get("alone"), dict):
            alone[where] = found
        elif isinstance(found := told.get("choices"), dict):
            chosen[record.method][where] = found
            weights[where].add(str(told.get("weights")))
            if isinstance(spent := told.get("evaluations"), int | float):
                evaluations[record.method].append(float(spent))
    lines = ["## Regret of each selector", "", _head("method", "evaluations", "regret", "largest", "choices")]
    lines += [_selector(name, chosen[name], alone, evaluations[name]) for name in sorted(chosen)]
    lines += ["", "## Agreement of shared and own weights", ""]
    lines += [_head("data set", "Kendall tau", "submodels", "runs", "equal weights")]
    lines += [_set(name, chosen, alone, weights) for name in sorted({dataset for dataset, _ in alone})]
    return "\n".join([*lines, ""])


def _head(*names: str) -> str:
    return f"| {' | '.join(names)} |\n|{'|'.join(' --- ' if at == 0 else ' ---: ' for at in range(len(names)))}|"


def _selector(
    name: str, found: Mapping[Where, Mapping[str, Any]], alone: Mapping[Where, Mapping[str, Any]], spent: list[float]
) -> str:
    """Regret: how much better, trained alone, the best submodel that any selector chose within the budget is."""
    by_set: dict[str, list[float]] = defaultdict(list)
    every: list[float] = []
    for where, choices in found.items():
        truths = {key: (float(one["share"]), float(one["fold_b"])) for key, one in alone.get(where, {}).items()}
        lost = []
        for budget, choice in choices.items():
            fits = [truth for share, truth in truths.values() if share <= float(budget) * (1 + 1e-9)]
            if choice is not None and choice["key"] in truths and fits:
                lost.append(max(fits) - truths[choice["key"]][1])
        if lost:
            by_set[where[0]].append(mean(lost))
            every += lost
    total = intervals.these_sets(list(by_set.values())) if by_set else None
    if total is None or not every:
        return f"| `{name}` | – | – | – | 0 |"
    half = "n/a" if total.low is None or total.estimate is None else f"±{100 * (total.estimate - total.low):.1f}"
    asked = f"{mean(spent):.0f}" if spent else "–"
    return f"| `{name}` | {asked} | {100 * mean(every):.1f} ({half}) | {100 * max(every):.1f} | {len(every)} |"


def _set(
    dataset: str,
    chosen: Mapping[str, Mapping[Where, Mapping[str, Any]]],
    alone: Mapping[Where, Mapping[str, Any]],
    weights: Mapping[Where, set[str]],
) -> str:
    """Over all submodels that were chosen at all, by seed: fold B with shared weights against fold B trained alone."""
    taus, count = [], 0
    runs = [where for where in alone if where[0] == dataset]
    for where in runs:
        shared = {
            choice["key"]: float(choice["fold_b"])
            for found in chosen.values()
            for choice in found.get(where, {}).values()
            if choice is not None
        }
        keys = sorted(shared.keys() & alone[where].keys())
        count += len(keys)
        result = agreement.agreement(
            [shared[key] for key in keys], [float(alone[where][key]["fold_b"]) for key in keys]
        )
        taus += [result.tau] if result.tau is not None else []
    equal = sum(len(weights[where]) == 1 for where in runs)
    told = f"{mean(taus):.2f} ({min(taus):.2f} to {max(taus):.2f})" if taus else "–"
    return f"| {dataset} | {told} | {count} | {len(runs)} | {equal} of {len(runs)} |"
