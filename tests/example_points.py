"""Made-up points, in the columns of ``points.csv``: five methods of plain, known behaviour."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

FULL = 10_000_000
BUDGETS = (0.2, 0.4, 0.6, 0.8, 1.0)
TOP = {"ea_vit": 0.96, "matformer": 0.95, "slice_untrained": 0.9, "fixed_uniform": 0.94, "fixed_same_shape": 0.955}
DROP = {"ea_vit": 0.08, "matformer": 0.12, "slice_untrained": 0.75, "fixed_uniform": 0.16, "fixed_same_shape": 0.1}


def example(
    seeds: Sequence[int] = (0, 1), datasets: Sequence[str] = ("digits", "mnist5k"), methods: Sequence[str] = tuple(TOP)
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        row(method, dataset, seed, budget, TOP[method] - DROP[method] * (1 - budget) ** 2 + rng.normal(0, 0.003))
        for method in methods
        for dataset in datasets
        for seed in seeds
        for budget in BUDGETS
    ]
    return pd.DataFrame(rows)


def row(method: str, dataset: str, seed: int, budget: float, accuracy: float | None, status: str = "ok") -> dict:
    n = 500
    correct = None if accuracy is None else round(accuracy * n)
    return {
        "suite": "quick",
        "method": method,
        "dataset": dataset,
        "seed": seed,
        "budget": budget,
        "status": status,
        "key": None if correct is None else "e96-h6x6-m384x6",
        "macs": None if correct is None else int(FULL * budget * 0.98),
        "params": None if correct is None else 690_000,
        "correct": correct,
        "n": None if correct is None else n,
        "accuracy": None if correct is None else correct / n,
        "train_macs": 4.1e12,
        "train_seconds": 31.25,
        "cell": cell_of(method, dataset, seed),
        "full_macs": FULL,
        "latency_ms": None if correct is None else 1.25,
        "choice_hash": "ab" * 8,
        "reason": None,
        "classes": float("nan"),
    }


def cell_of(method: str, dataset: str, seed: int) -> str:
    return hashlib.sha256(f"{method} {dataset} {seed}".encode()).hexdigest()[:16]


def spoil(points: pd.DataFrame, where: pd.Series, status: str, reason: str = "") -> pd.DataFrame:
    """The same points with those at ``where`` failed: no numbers, a status and a reason."""
    spoilt = points.copy()
    spoilt.loc[where, ["macs", "params", "correct", "n", "accuracy", "latency_ms"]] = np.nan
    spoilt.loc[where, "key"] = None
    spoilt.loc[where, "status"] = status
    spoilt.loc[where, "reason"] = reason
    return spoilt
