"""Selectors on equal weights: regret and agreement by hand on a few submodels; order of records is irrelevant."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.reports.document import markdown
from harness.reports.tables import selector_comparison


def record(method: str, seed: int, **diagnostics: Any) -> Any:
    return SimpleNamespace(score="accuracy", dataset="digits", seed=seed, method=method, diagnostics=diagnostics)


def choice(key: str, fold_b: float) -> dict[str, Any]:
    return {"key": key, "fold_a": fold_b, "fold_b": fold_b}


def records(seed: int, weights: str = "w") -> list[Any]:
    alone = {
        name: {"share": share, "fold_b": b} for name, share, b in (("s", 0.2, 0.8), ("m", 0.5, 0.9), ("n", 0.5, 0.7))
    }
    return [
        record(
            "best", seed, weights=weights, evaluations=4, choices={"0.2": choice("s", 0.5), "0.5": choice("m", 0.9)}
        ),
        record("poor", seed, weights="w", evaluations=0, choices={"0.2": None, "0.5": choice("n", 0.6)}),
        record("truth", seed, alone=alone),
        record("stranger", seed, loss=1.0),
    ]


def told(rows: list[Any]) -> str:
    return markdown.to_markdown(selector_comparison.selector_page(rows))


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_regret_is_what_the_best_that_fits_has_over_the_choice() -> None:
    text = told([*records(0), *records(1)])
    assert row(text, "`best`")[1:] == ["4", "0.0 (n/a)", "0.0", "4"]
    assert row(text, "`poor`")[1:] == ["0", "20.0 (n/a)", "20.0", "2"]  # m against n, and nothing at 0.2
    assert "stranger" not in text


def test_agreement_is_over_all_that_was_chosen_and_weights_are_compared() -> None:
    rows = [*records(0), *records(1, weights="other")]
    text = told(rows)
    assert row(text, "digits")[1:] == ["0.33 (0.33 to 0.33)", "6", "2", "1 of 2"]
    assert told(rows[::-1]) == text


def test_without_the_truth_there_is_no_regret() -> None:
    text = told(records(0)[:2])
    assert row(text, "`best`")[1:] == ["–", "–", "–", "0"]
    assert "| digits" not in text


# --- nesting --------------------------------------------------------------------------------------------------------


def nested(seed: int, by: str, prices: dict[str, float]) -> Any:
    budgets = {budget: {"free": 0.9, "price": price} for budget, price in prices.items()}
    return record("chained", seed, nested={"by": by, "budgets": budgets})


def test_the_price_of_nesting_is_its_mean_over_seeds() -> None:
    rows = [nested(0, "measured", {"0.2": 0.04, "1.0": 0.0}), nested(1, "shrunk", {"0.2": 0.02, "1.0": 0.0})]
    found = selector_comparison.nesting_section([*rows, *records(0)], [0.2, 0.6, 1.0], "where from")
    assert found is not None and found.table is not None
    (only,) = [[place.text for place in row] for row in found.table.rows]
    assert only == ["chained", "digits", "measured 1, shrunk 1", "+3.0 (2 seeds)", "–", "+0.0 (n/a)"]
    assert found.table.note == "where from"
    assert selector_comparison.nesting_section([*rows[::-1], *records(0)], [0.2, 0.6, 1.0], "where from") == found
    assert selector_comparison.nesting_section(records(0), [0.2], "") is None
