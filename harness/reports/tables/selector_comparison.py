"""Selectors, from records alone: on equal weights, against submodels trained alone; and what nesting costs a choice.

Reads the diagnostics of recipes: ``choices`` (budget -> key, fold_a, fold_b), ``weights`` and ``nested`` (budget ->
free, price) of each selector, ``alone`` (key -> fold_b) of the one that trained what they chose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from harness.reports.document import formatting
from harness.reports.document.blocks import Page, Row, Section, method_entry, table
from harness.results.record import Record
from harness.statistics import intervals
from harness.statistics.agreement import kendall_tau
from harness.tasks import SCORES

Where = tuple[str, int]  # data set, seed
Diagnostics = Mapping[Where, Mapping[str, Any]]


def selector_page(records: Iterable[Record]) -> Page:
    """Two tables: one row a selector, one row a data set. Regret in points of accuracy, by fold B."""
    alone: dict[Where, Mapping[str, Any]] = {}
    chosen: dict[str, dict[Where, Mapping[str, Any]]] = defaultdict(dict)
    evaluations: dict[str, list[float]] = defaultdict(list)
    weights: dict[Where, set[str]] = defaultdict(set)
    for record in records:
        where, diagnostics = (record.dataset, record.seed), record.diagnostics
        if isinstance(trained := diagnostics.get("alone"), dict):
            alone[where] = trained
        elif isinstance(choices := diagnostics.get("choices"), dict):
            chosen[record.method][where] = choices
            weights[where].add(str(diagnostics.get("weights")))
            if isinstance(spent := diagnostics.get("evaluations"), int | float):
                evaluations[record.method].append(float(spent))
    regrets = [_selector(one, chosen[one], alone, evaluations[one]) for one in sorted(chosen)]
    agreeing = [_set(one, chosen, alone, weights) for one in sorted({dataset for dataset, _ in alone})]
    return Page(
        "Selectors on equal weights",
        (),
        (
            Section(
                "Regret of each selector", "", table(["method", "evaluations", "regret", "largest", "choices"], regrets)
            ),
            Section(
                "Agreement of shared and own weights",
                "",
                table(["data set", "Kendall tau", "submodels", "runs", "equal weights"], agreeing),
            ),
        ),
    )


def _selector(one: str, chosen: Diagnostics, alone: Diagnostics, spent: Sequence[float]) -> Row:
    """Regret: how much better, trained alone, the best submodel that any selector chose within the budget is."""
    by_set: dict[str, list[float]] = defaultdict(list)
    every: list[float] = []
    for where, choices in chosen.items():
        truths = {key: (float(one["share"]), float(one["fold_b"])) for key, one in alone.get(where, {}).items()}
        lost = []
        for budget, choice in choices.items():
            fits = [truth for share, truth in truths.values() if share <= float(budget) * (1 + 1e-9)]
            if choice is not None and choice["key"] in truths and fits:
                lost.append(max(fits) - truths[choice["key"]][1])
        if lost:
            by_set[where[0]].append(mean(lost))
            every += lost
    if not every:
        return [method_entry(one), "–", "–", "–", "0"]
    asked = f"{mean(spent):.0f}" if spent else "–"
    regret = formatting.accuracy_text(intervals.these_sets(list(by_set.values())))
    return [method_entry(one), asked, regret, f"{100 * max(every):.1f}", str(len(every))]


def _set(dataset: str, chosen: Mapping[str, Diagnostics], alone: Diagnostics, weights: Mapping[Where, set[str]]) -> Row:
    """Rank correlation by seed over all chosen submodels: fold B with shared weights against fold B trained alone."""
    taus, count = [], 0
    runs = [where for where in alone if where[0] == dataset]
    for where in runs:
        shared = {
            choice["key"]: float(choice["fold_b"])
            for choices in chosen.values()
            for choice in choices.get(where, {}).values()
            if choice is not None
        }
        keys = sorted(shared.keys() & alone[where].keys())
        count += len(keys)
        trained = [float(alone[where][key]["fold_b"]) for key in keys]
        tau = kendall_tau([shared[key] for key in keys], trained)
        taus += [] if tau is None else [tau]
    equal = sum(len(weights[where]) == 1 for where in runs)
    correlation = f"{mean(taus):.2f} ({min(taus):.2f} to {max(taus):.2f})" if taus else "–"
    return [dataset, correlation, str(count), str(len(runs)), f"{equal} of {len(runs)}"]


# --- nesting ----------------------------------------------------------------------------------------------------


def nesting_section(records: Iterable[Record], budgets: Sequence[float], note: str) -> Section | None:
    """Table of every method whose choices contain each other; None where none does."""
    nested: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    titles: set[str] = set()
    for record in sorted(records, key=lambda each: (each.method, each.dataset, each.seed)):
        one = record.diagnostics.get("nested")
        if isinstance(one, Mapping) and isinstance(one.get("budgets"), Mapping):
            nested[record.method, record.dataset].append(one)
            titles.add(SCORES[record.score].title)
    if not nested:
        return None
    rows: list[Row] = [
        [method_entry(method), dataset, _ways(runs), *(_price(runs, budget) for budget in budgets)]
        for (method, dataset), runs in nested.items()
    ]
    text = (
        "Where the choice of a smaller budget lies inside that of a larger one: points of "
        f"{' or '.join(sorted(titles))} on fold A of the select split that this costs against the same selector's free "
        "choices; below 0 the chain is better. Mean over "
        "seeds, in brackets half the 95 % t interval. Chain: the best of all that was measured, or the free choices "
        "shrunk into each other, in how many runs."
    )
    head = ["method", "data set", "chain", *map(formatting.budget_text, budgets)]
    return Section("Price of nested choices", text, table(head, rows, note, left=3))


def _ways(nested: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(str(one.get("by")) for one in nested)
    return ", ".join(f"{way} {count}" for way, count in sorted(counts.items()))


def _price(nested: Sequence[Mapping[str, Any]], budget: float) -> str:
    prices = [
        float(price["price"]) for one in nested for key, price in one["budgets"].items() if float(key) == float(budget)
    ]
    return formatting.difference_text(intervals.over_seeds(prices)) if prices else "–"
