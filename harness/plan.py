"""The plan: a suite as cells, each with an id that is the hash of all that can change its numbers, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.suite import DataSet, MethodSpec, Suite

PROTOCOL_VERSION = 1  # grows when harness/protocol.py or the measuring changes what a cell's numbers mean


@dataclass(frozen=True, slots=True)
class Cell:
    """One method on one data set with one seed. ``needs``: ids of cells whose choices it is given."""

    id: str
    suite: str
    method: str
    dataset: str
    seed: int
    needs: tuple[str, ...]
    content: Mapping[str, Any]

    @property
    def title(self) -> str:
        return f"{self.method} · {self.dataset} · seed {self.seed}"


def canonical(value: object) -> str:
    """One spelling of plain values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def cells(suite: Suite) -> tuple[Cell, ...]:
    """All cells, those that others need before these; the same suite always gives the same cells in the same order."""
    shared = _shared(suite)
    methods = _ordered(suite.methods)
    planned: list[Cell] = []
    for dataset in suite.datasets:
        data = _data_content(dataset)
        for seed in suite.seeds:
            ids: dict[str, str] = {}
            for method in methods:
                needs = tuple(ids[name] for name in method.after)
                own = {"use": method.use, "options": method.options}
                content = {**shared, "dataset": data, "seed": seed, "method": own, "needs": sorted(needs)}
                ids[method.name] = digest(content)[:16]
                planned.append(Cell(ids[method.name], suite.name, method.name, dataset.name, seed, needs, content))
    return tuple(planned)


def _shared(suite: Suite) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL_VERSION,
        "regime": suite.regime,
        "budgets": list(suite.budgets),
        "threads": suite.threads,
        "backbone": suite.backbone.model_dump(mode="json"),
        "input": suite.input.model_dump(mode="json"),
        "schedule": suite.schedule.model_dump(mode="json"),
    }


def _data_content(dataset: DataSet) -> dict[str, Any]:
    # Only a folder is known by its path; for the others a path says where on this machine the same data lies.
    kept = {"source", "fit", "select", "test", "augment"} | ({"path"} if dataset.source == "folder" else set())
    return dataset.model_dump(mode="json", include=kept)


def _ordered(methods: tuple[MethodSpec, ...]) -> tuple[MethodSpec, ...]:
    """Each method after those it waits for, else in the order of the file."""
    done: dict[str, MethodSpec] = {}
    left = list(methods)
    while left:
        ready = next((method for method in left if all(name in done for name in method.after)), None)
        if ready is None:
            raise ValueError(f"methods wait for one another: {', '.join(method.name for method in left)}")
        done[ready.name] = ready
        left.remove(ready)
    return tuple(done.values())
