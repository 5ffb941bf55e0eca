"""Tables of metrics: means over seeds, and reasons where a value is missing."""

from __future__ import annotations

import pandas as pd
from example_points import cell_of, row

from tests.harness.reports.tables.shown_tables import line, page

POINTS = pd.DataFrame([row("ours", "a", seed, budget, 0.9) for seed in (0, 1) for budget in (0.5, 1.0)])


def values(metric: str, *numbers: float | None) -> pd.DataFrame:
    rows = [
        {"suite": "quick", "method": "ours", "dataset": "a", "seed": seed, "budget": budget, "metric": metric,
         "value": number, "reason": None if number is not None else "no luck", "cell": cell_of("ours", "a", seed)}
        for (seed, budget), number in zip([(0, 0.5), (0, 1.0), (1, 0.5), (1, 1.0)], numbers, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_each_metric_has_a_table() -> None:
    both = pd.concat([values("loss", 0.5, 0.25, 0.7, 0.25), values("gap", 1.0, None, 2.0, None)])
    text = page(POINTS, metric_values=both)
    assert line(text, "ours", "Metric loss") == ["`ours`", "0.6 (± 1.27)", "0.25 (n/a)"]
    assert line(text, "ours", "Metric gap") == ["`ours`", "1.5 (± 6.35)", "–"]
    assert "No value of `ours` on a (2 points): no luck" in text
    assert "## Metric" not in page(POINTS)
