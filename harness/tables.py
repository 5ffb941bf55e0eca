"""Points to one Markdown page: accuracy by budget, cost, use of budgets, and where every number comes from.

What is missing or failed is a word, never a zero, and the page does not depend on the order of the points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from harness import stats

WORDS = tuple(status for status in stats.STATUSES if status not in stats.MEASURED)


def markdown(
    points: pd.DataFrame,
    title: str,
    *,
    regime: str = "equal_steps",
    planned: int | None = None,
    chance: Mapping[str, float] | None = None,
) -> str:
    """The whole page. ``planned``: number of cells of the suite; ``chance``: accuracy of guessing by data set."""
    points = _in_order(points)
    if points.empty:
        return f"# {title}\n\nNo cell has a record yet: {planned or 0} planned.\n"
    summary, areas = stats.summary(points), stats.areas(points, chance)
    sections = [
        f"# {title}",
        _preamble(points, regime, planned, chance),
        *(_dataset(points, summary, areas, name) for name in sorted(points["dataset"].unique())),
        _overall(points, areas),
        _cost(points),
        _use(points),
        _notes(points),
        _provenance(points),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _in_order(points: pd.DataFrame) -> pd.DataFrame:
    return points.sort_values([*stats.CELL, "budget"], ignore_index=True)


def _preamble(points: pd.DataFrame, regime: str, planned: int | None, chance: Mapping[str, float] | None) -> str:
    guess = "as guessing" if chance else "as 0"
    return "\n".join(
        [
            f"- {_denominator(points, planned)}",
            f"- Regime: {regime.replace('_', ' ')}; budgets are shares of the full model's counted MACs.",
            "- Test accuracy in %, mean over seeds, in brackets half the 95 % t interval over seeds "
            "(n/a: 1 seed gives none).",
            "- Area: mean accuracy in % over log2 MACs between the smallest and the largest budget, by steps; an "
            f"unreachable budget counts {guess}.",
            "- Bold: better than every other method there, each by a paired t interval over seeds above 0.",
        ]
    )


def _denominator(points: pd.DataFrame, planned: int | None) -> str:
    """For example "18 of 20 cells complete; 1 oom, 1 missing"."""
    full = stats.completed(points)
    states = [_cell_state(group) for _, group in full.groupby(stats.CELL)]
    total = max(len(states), planned or 0)
    states += ["missing"] * (total - len(states))
    whole = sum(state in ("complete", "suspicious") for state in states)
    others = [(state, states.count(state)) for state in stats.STATUSES if state in states]
    tail = "".join(f"; {count} {state}" for state, count in others)
    seeds = ", ".join(str(seed) for seed in sorted(points["seed"].unique()))
    return f"{whole} of {total} cells complete{tail}. Seeds: {seeds}."


def _cell_state(cell: pd.DataFrame) -> str:
    """The worst of the cell's statuses; ``complete`` where every budget was answered, by a choice or by "none"."""
    found = set(cell["status"])
    worst = [status for status in ("suspicious", *WORDS) if status in found and status != "unreachable"]
    return worst[-1] if worst else "complete"


# --- accuracy ---------------------------------------------------------------------------------------------------


def _dataset(points: pd.DataFrame, summary: pd.DataFrame, areas: pd.DataFrame, name: str) -> str:
    best = winners(points[points["dataset"] == name])
    here, curves = summary[summary["dataset"] == name], areas[areas["dataset"] == name]
    budgets = sorted(here["budget"].unique())
    rows = []
    for method in _ranked(curves):
        cells = here[here["method"] == method].set_index("budget")
        shown = [_shown(cells.loc[budget], (method, name, budget) in best) for budget in budgets]
        rows.append([_code(method), *shown, _spread(_values(curves, method))])
    sizes = sorted({int(n) for n in points.loc[points["dataset"] == name, "n"].dropna()})
    images = f" ({', '.join(map(str, sizes))} test images)" if sizes else ""
    return f"## {name}{images}\n\n" + _grid(["method", *map(_percent, budgets), "area"], rows)


def _ranked(curves: pd.DataFrame) -> list[str]:
    """Methods by mean area, best first; those without one last, by name."""
    means = {str(name): group["area"].mean() for name, group in curves.groupby("method")}
    return sorted(means, key=lambda name: (math.isnan(means[name]), -means[name], name))


def _values(curves: pd.DataFrame, method: str) -> list[float]:
    return [float(value) for value in curves.loc[curves["method"] == method, "area"].dropna()]


def _shown(row: pd.Series, bold: bool) -> str:
    parts = []
    if row["seeds"]:
        half = None if math.isnan(row["half"]) else float(row["half"])
        number = _number(float(row["mean"]), half)
        parts.append(f"**{number}**" if bold else number)
    parts += [_word(status, row) for status in ("suspicious", *WORDS) if row[status]]
    return ", ".join(parts)


def _word(status: str, row: pd.Series) -> str:
    """With the number of seeds; a budget that no seed reaches is a fact about the method and needs none."""
    every = sum(int(row[other]) for other in stats.STATUSES)
    return status if status == "unreachable" and row[status] == every else f"{status} ({row[status]})"


def winners(points: pd.DataFrame) -> set[tuple[str, str, float]]:
    """The (method, data set, budget) that beat every other method measured there, by paired t intervals over seeds.

    Beating all of them needs every single interval above 0, so no correction for their number is due. A method with a
    suspicious seed wins nothing.
    """
    found = set()
    for (dataset, _), here in stats.accuracies(points).groupby(["dataset", "budget"]):
        wide = here.pivot(index="seed", columns="method", values="accuracy")
        first = min(wide.columns, key=lambda name: (-wide[name].mean(), name))
        gaps = [_gap(wide, first, other) for other in wide.columns if other != first]
        clean = not (here.loc[here["method"] == first, "status"] == "suspicious").any()
        if clean and gaps and all(gap is not None and gap.low > 0 for gap in gaps):
            found.add((str(first), str(dataset), float(here["budget"].iloc[0])))
    return found


def _gap(wide: pd.DataFrame, first: str, other: str) -> stats.Interval | None:
    return stats.paired_t_interval((wide[first] - wide[other]).dropna().tolist())


def _overall(points: pd.DataFrame, areas: pd.DataFrame) -> str:
    datasets = sorted(points["dataset"].unique())
    if len(datasets) < 2:
        return ""
    budgets = sorted(points["budget"].unique())
    values = stats.accuracies(points)
    rows = []
    for method in _ranked(areas):
        mine = values[values["method"] == method]
        shown = [_over_sets_at(mine[mine["budget"] == budget], datasets) for budget in budgets]
        area = _over_sets(_by_set(areas[areas["method"] == method].dropna(), "area", datasets))
        rows.append([_code(method), *shown, area])
    text = (
        f"Mean of the means of these {len(datasets)} data sets; in brackets half the 95 % interval over seeds within "
        "sets (Satterthwaite t), which says nothing about other data sets."
    )
    return "## Mean over data sets\n\n" + text + "\n\n" + _grid(["method", *map(_percent, budgets), "area"], rows)


def _over_sets_at(measured: pd.DataFrame, datasets: Sequence[str]) -> str:
    odd = int((measured["status"] == "suspicious").sum())
    return _over_sets(_by_set(measured, "accuracy", datasets)) + (f", suspicious ({odd})" if odd else "")


def _by_set(rows: pd.DataFrame, column: str, datasets: Sequence[str]) -> list[list[float]]:
    return [[float(value) for value in rows.loc[rows["dataset"] == name, column]] for name in datasets]


def _over_sets(values: list[list[float]]) -> str:
    there = sum(bool(group) for group in values)
    if there < len(values):
        return f"{there} of {len(values)} sets"
    interval = stats.satterthwaite(values)
    mean = sum(sum(group) / len(group) for group in values) / len(values)
    return _number(mean, interval.half if interval else None)


# --- cost, use, provenance --------------------------------------------------------------------------------------


def _cost(points: pd.DataFrame) -> str:
    """Training is a cell's: every one of its rows repeats the total for all its budgets."""
    cells = points.groupby(stats.CELL, as_index=False)[["train_macs", "train_seconds"]].max()
    rows = []
    for (method, dataset), group in cells.groupby(["method", "dataset"]):
        spent = group.dropna(subset=["train_macs"])
        macs = _giga(spent["train_macs"].mean()) if len(spent) else "missing"
        seconds = f"{spent['train_seconds'].mean():.1f}" if len(spent) else "missing"
        rows.append([_code(str(method)), str(dataset), macs, seconds, f"{len(spent)} of {len(group)}"])
    text = "One cell trains for all its budgets together; means over cells. Seconds are of the machine that ran them."
    return f"## Cost of training\n\n{text}\n\n" + _grid(
        ["method", "data set", "GMACs", "seconds", "cells"], rows, left=2
    )


def _use(points: pd.DataFrame) -> str:
    values = stats.use(points)
    if values.empty:
        return ""
    budgets = sorted(points["budget"].unique())
    rows = []
    for method, group in values.groupby("method"):
        shares = [_share(group.loc[group["budget"] == budget, "use"]) for budget in budgets]
        rows.append([_code(str(method)), *shares, str(int((group["use"] > 1 + stats.SLACK).sum()))])
    text = "Mean share of the budget that the choices use, in %, and the number of choices over their budget (law: 0)."
    return f"## Use of budgets\n\n{text}\n\n" + _grid(["method", *map(_percent, budgets), "over"], rows)


def _share(values: pd.Series) -> str:
    known = values.dropna()
    return f"{100 * known.mean():.1f}" if len(known) else "–"


def _notes(points: pd.DataFrame) -> str:
    """Why a point is not plain ``ok``: one line a reason, with the places it holds for."""
    odd = points[points["status"] != "ok"].copy()
    if odd.empty:
        return ""
    odd["reason"] = odd["reason"].fillna("").astype(str).map(_plain)
    lines = []
    for (status, method, dataset, reason), group in odd.groupby(["status", "method", "dataset", "reason"]):
        budgets = ", ".join(_percent(budget) for budget in sorted(group["budget"].unique()))
        seeds = ", ".join(str(seed) for seed in sorted(group["seed"].unique()))
        why = f": {reason}" if str(reason) else ""
        lines.append(f"- {status}, {_code(str(method))} on {dataset} at {budgets} (seeds {seeds}){why}")
    return "## Not plain\n\n" + "\n".join(lines)


def _plain(text: str) -> str:
    """One line that cannot break out of its list or table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")[:300]


def _provenance(points: pd.DataFrame) -> str:
    rows = []
    for (method, dataset), group in points.groupby(["method", "dataset"]):
        cells = group.drop_duplicates(["seed", "cell"]).sort_values("seed")
        ids = ", ".join(f"{seed}: `{cell}`" for seed, cell in zip(cells["seed"], cells["cell"], strict=True))
        rows.append([_code(str(method)), str(dataset), ids])
    return "## Cells\n\n" + _grid(["method", "data set", "seed: cell"], rows, left=3)


# --- text -------------------------------------------------------------------------------------------------------


def _code(name: str) -> str:
    return f"`{name}`"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _number(mean: float, half: float | None) -> str:
    return f"{100 * mean:.1f} ({'n/a' if half is None else f'±{100 * half:.1f}'})"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "missing"
    interval = stats.t_interval(values)
    return _number(sum(values) / len(values), interval.half if interval else None)


def _giga(macs: float) -> str:
    value = macs / 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Markdown table, the first ``left`` columns flush left, the others right; readable as plain text too."""
    table = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    padded = [
        [
            text.ljust(width) if i < left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in table
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [padded[0], rule, *padded[1:]])
