"""The plan: a suite as cells, each with an id that is the hash of all that can change its numbers, and nothing else.

Names, order, paths, workers, devices and time limits are not in it. Code and data are, by content (:class:`Prints`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.code_digest import file_digest
from harness.suite import IMPORT_STRING, DataSet, MethodSpec, Suite, SuiteError, names_a_file
from harness.tasks import CLASSIFICATION

PROTOCOL_VERSION = 1  # grows when harness/protocol.py changes what methods are given or asked
COUNTER_VERSION = 1  # grows when counting, splitting, augmenting or measuring gives other numbers for the same method


@dataclass(frozen=True, slots=True)
class Prints:
    """Digests of a suite's code and data as they are now: SHA-256 in hex (:mod:`harness.fingerprints`)."""

    code: Mapping[str, str]  # import string -> digest of its module and all that this imports from its project
    # (of the backbone, the methods, and what their options name, where there is such a module)
    data: Mapping[str, str | None]  # name of a data set -> fingerprint of its splits; None: it cannot be read
    missing: Mapping[str, str]  # name of a data set that cannot be read -> why
    fit: Mapping[str, int] = field(default_factory=dict)  # name of a data set -> images of its fit split


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


def canonical_digest(value: object) -> str:
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def count(suite: Suite) -> int:
    """Number of cells, without looking at code or data."""
    return len(suite.methods) * len(suite.datasets) * len(suite.seeds)


def cells(suite: Suite, prints: Prints) -> tuple[Cell, ...]:
    """All cells, those that others need before these; the same suite always gives the same cells in the same order.

    SuiteError where two cells would be the same.
    """
    shared = _shared(suite)
    methods = [(method, _method_content(method, suite, prints)) for method in _ordered(suite.methods)]
    planned: list[Cell] = []
    for dataset in suite.datasets:
        data = _data_content(dataset, prints)
        for seed in suite.seeds:
            ids: dict[str, str] = {}
            for method, recipe in methods:
                needs = tuple(ids[name] for name in method.after)
                content = {**shared, **data, **recipe, "seed": seed, "needs": sorted(needs)}
                ids[method.name] = canonical_digest(content)[:16]
                planned.append(Cell(ids[method.name], suite.name, method.name, dataset.name, seed, needs, content))
    _check_distinct(planned)
    return tuple(planned)


def with_needs(cells: tuple[Cell, ...], wanted: Collection[str]) -> tuple[Cell, ...]:
    """Those of ``cells`` whose id is in ``wanted``, and all that they need, in the order of ``cells``."""
    chosen = set(wanted)
    for cell in reversed(cells):  # users before what they need
        if cell.id in chosen:
            chosen.update(cell.needs)
    return tuple(cell for cell in cells if cell.id in chosen)


def _check_distinct(planned: list[Cell]) -> None:
    """Two folders of the same images, or two files of the same bytes as option, are one thing with two names."""
    seen: dict[str, Cell] = {}
    for cell in planned:
        first = seen.setdefault(cell.id, cell)
        if first is not cell:
            raise SuiteError((f"{cell.suite}: {first.title} and {cell.title} are the same by content; keep one",))


def _shared(suite: Suite) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL_VERSION,
        "counter": COUNTER_VERSION,
        "regime": suite.regime,
        "macs_factor": suite.macs_factor,
        "budgets": list(suite.budgets),
        "grid": suite.grid,
        "threads": suite.threads,
        "backbone": {"use": suite.backbone.use, "options": by_content(suite.backbone.options)},
        **({} if suite.task == CLASSIFICATION else {"task": suite.task, "score": suite.score}),
        "input": _without_defaults(suite.input, {"resize"}),
        "schedule": _without_defaults(suite.schedule, {"micro_batch", "checkpointing"}),
        **({"outputs": "kept"} if suite.metrics else {}),  # which metrics are taken of them is no part of a cell
    }


def _method_content(method: MethodSpec, suite: Suite, prints: Prints) -> dict[str, Any]:
    named = {use: prints.code[use] for use in named_code(method.options) if use in prints.code}
    return {
        "method": {"use": method.use, "options": by_content(method.options)},
        "code": {"backbone": prints.code[suite.backbone.use], "method": prints.code[method.use], **named},
    }


def named_code(options: Any) -> tuple[str, ...]:
    """Values of a method's options that are written ``module:name``: code that it is given, such as a selector.

    >>> named_code({"select": "my_rules:halving", "evaluations": 60})
    ('my_rules:halving',)
    """
    if isinstance(options, Mapping):
        return named_code(list(options.values()))
    if isinstance(options, list | tuple):
        return tuple(dict.fromkeys(use for value in options for use in named_code(value)))
    return (options,) if isinstance(options, str) and IMPORT_STRING.fullmatch(options) else ()


def _data_content(dataset: DataSet, prints: Prints) -> dict[str, Any]:
    # The fingerprint knows a folder better than its path does; a folder that is not there has nothing else.
    unread = prints.data[dataset.name] is None
    fields = {"source", "fit", "select", "test", "augment", "reading"}
    fields |= {"path"} if unread and dataset.source == "folder" else set()
    fields |= {"use", "options", "path"} if unread and dataset.source == "listing" else set()
    table = _without_defaults(dataset, {"reading"})
    return {"dataset": {key: table[key] for key in table.keys() & fields}, "data": prints.data[dataset.name]}


def _without_defaults(table: BaseModel, later: Collection[str]) -> dict[str, Any]:
    """Values of a table of the suite, but for keys that came ``later`` and are not used: ids stay as they were."""
    fields = type(table).model_fields
    return {
        key: value
        for key, value in table.model_dump(mode="json").items()
        if key not in later or value != fields[key].default
    }


def by_content(options: Any) -> Any:
    """``options`` with each value that names a file (:func:`harness.suite.names_a_file`) as the hash of that file."""
    if isinstance(options, Mapping):
        return {key: by_content(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [by_content(value) for value in options]
    return {"file": file_digest(Path(options))} if names_a_file(options) else options


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
