"""Notes below figures: what the curves do not show, that is unreachable, failed and missing points."""

from __future__ import annotations

import pandas as pd

from harness.reports.figures.style import label
from harness.statistics import frames


def absent_points(full: pd.DataFrame) -> list[str]:
    """One line a status and method, with the data sets and budgets."""
    odd, lines = full[~full["status"].isin(frames.MEASURED)], []
    for (status, method), group in odd.groupby(["status", "method"]):
        places = [
            f"{label(str(dataset))} at {', '.join(f'{100 * b:g} %' for b in sorted(here['budget'].unique()))}"
            for dataset, here in group.groupby("dataset")
        ]
        lines.append(f"{status}: {label(str(method))} ({'; '.join(places)})")
    return lines


def not_shown(full: pd.DataFrame) -> list[str]:
    """:func:`absent_points` in short, on one line: counts of points by status and method."""
    odd = full[~full["status"].isin(frames.MEASURED)]
    parts = []
    for status in frames.STATUSES:
        here = odd[odd["status"] == status].groupby("method")
        counts = [f"{label(str(m))} {len(group)} of {int((full['method'] == m).sum())}" for m, group in here]
        parts += [f"{status}: {', '.join(counts)}"] if counts else []
    return [f"Not drawn (points without a number): {'; '.join(parts)}."] if parts else []
