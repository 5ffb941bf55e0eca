"""Faults of a suite that no single key shows. They are looked for in the raw values, so that a file that is wrong in
other ways too still gets all its faults reported together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.messages import choices
from harness.tasks import CLASSIFICATION, SCORES, SCORES_OF, SEGMENTATION
from harness.toml import shown

# Augmentations of the image as it is in its file.
FROM_ORIGINALS = ("imagenet_crop", "imagenet_crop_flip", "segmentation")


def cross_faults(raw: Mapping[str, Any]) -> list[str]:
    """One ``key path: message`` for each fault between keys."""
    methods, datasets = _tables(raw, "methods"), _tables(raw, "datasets")
    return [
        *_orders(raw),
        *_scores(raw),
        *_metrics(raw),
        *_regime(raw),
        *_planes(raw),
        *_resized(raw),
        *_twice("datasets", datasets, "name"),
        *_twice("methods", methods, "name"),
        *_twice("metrics", _tables(raw, "metrics"), "name"),
        *_same(
            "datasets", datasets, {"fit": None, "select": None, "test": None, "augment": "none", "reading": "memory"}
        ),
        *_same("methods", methods, {"options": {}, "after": []}),
        *_folders(datasets),
        *_reading(datasets),
        *_mask_augments(raw, datasets),
        *_after(methods),
    ]


def _tables(raw: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = raw.get(key)
    tables = [dict(entry) if isinstance(entry, dict) else {} for entry in entries] if isinstance(entries, list) else []
    for table in tables:
        if key in ("methods", "metrics") and "name" not in table and isinstance(table.get("use"), str):
            table["name"] = table["use"].partition(":")[2]
        if key == "datasets" and "source" not in table and isinstance(table.get("name"), str):
            table["source"] = table["name"] if "use" not in table else "folder"
    return tables


def _orders(raw: Mapping[str, Any]) -> Iterator[str]:
    budgets, seeds = raw.get("budgets"), raw.get("seeds")
    if isinstance(budgets, list) and all(isinstance(value, int | float) for value in budgets):
        for index in range(1, len(budgets)):
            if budgets[index] <= budgets[index - 1]:
                yield f"budgets[{index}]: {budgets[index]}: budgets must grow, but {budgets[index - 1]} is before it"
    if isinstance(seeds, list):
        for index, seed in enumerate(seeds):
            if seed in seeds[:index]:
                yield f"seeds[{index}]: {seed}: named twice, first as seeds[{seeds.index(seed)}]"


def _scores(raw: Mapping[str, Any]) -> Iterator[str]:
    task, score = str(raw.get("task", CLASSIFICATION)), str(raw.get("score"))
    if task in SCORES_OF and score in SCORES and score not in SCORES_OF[task]:
        yield f"score: {shown(score)}: is none of task = {shown(task)}; allowed: {', '.join(SCORES_OF[task])}"


def _metrics(raw: Mapping[str, Any]) -> Iterator[str]:
    if raw.get("metrics") and raw.get("task", CLASSIFICATION) != CLASSIFICATION:
        yield f"metrics: only for task = {shown(CLASSIFICATION)}: they are given one label an image"


def _regime(raw: Mapping[str, Any]) -> Iterator[str]:
    if "macs_factor" in raw and raw.get("regime") != "equal_macs":
        yield f'macs_factor: {raw["macs_factor"]}: is only for regime = "equal_macs"'


def _planes(raw: Mapping[str, Any]) -> Iterator[str]:
    table = raw.get("input")
    if not isinstance(table, dict):
        return
    for key in ("mean", "std"):
        values, channels = table.get(key), table.get("channels")
        if isinstance(values, list) and channels in (1, 3) and len(values) != channels:
            yield f"input.{key}: {values}: {len(values)} values for {channels} channels"


def _resized(raw: Mapping[str, Any]) -> Iterator[str]:
    table = raw.get("input")
    size, resize = (table.get("size"), table.get("resize")) if isinstance(table, dict) else (None, None)
    if isinstance(size, int) and isinstance(resize, int) and resize < size:
        yield f"input.resize: {resize}: must be at least the size {size}, which is cut out of the centre"


def _twice(where: str, tables: list[dict[str, Any]], key: str) -> Iterator[str]:
    seen: dict[str, int] = {}
    for index, table in enumerate(tables):
        value = table.get(key)
        if isinstance(value, str) and seen.setdefault(value, index) != index:
            yield f"{where}[{index}].{key}: {shown(value)}: duplicate of {where}[{seen[value]}].{key}"


def _same(where: str, tables: list[dict[str, Any]], defaults: dict[str, Any]) -> Iterator[str]:
    """Two entries that differ in name only would be one cell with two names."""
    seen: dict[str, int] = {}
    for index, table in enumerate(tables):
        content = {**defaults, **{key: value for key, value in table.items() if key not in ("name", "workers")}}
        if where == "datasets" and content.get("source") != "folder":
            content.pop("path", None)
        first = seen.setdefault(json.dumps(content, sort_keys=True), index)
        if table and first != index and tables[first].get("name") != table.get("name"):
            yield f"{where}[{index}]: duplicate: the same as {where}[{first}] in everything but the name"


def _folders(datasets: list[dict[str, Any]]) -> Iterator[str]:
    for index, table in enumerate(datasets):
        if "use" in table:
            if table.get("source", "folder") not in ("folder", "listing"):
                yield f"datasets[{index}].source: {shown(table['source'])}: leave it out where `use` gives the images"
        elif table.get("source") == "listing":
            yield f'datasets[{index}].use: missing key; source "listing" needs a callable that lists the images'
        elif table.get("source") == "folder" and "path" not in table:
            yield f'datasets[{index}].path: missing key; source "folder" needs the path of the folder'
        if table.get("options") and "use" not in table:
            yield f"datasets[{index}].options: only for data sets that `use` makes"


def _reading(datasets: list[dict[str, Any]]) -> Iterator[str]:
    for index, table in enumerate(datasets):
        augment, disk = table.get("augment"), table.get("reading") == "disk"
        if augment in FROM_ORIGINALS and not disk:
            yield (
                f"datasets[{index}].augment: {shown(augment)}: crops the original image, which memory does not keep; "
                'set reading = "disk"'
            )
        if disk and table.get("source") not in ("folder", "listing"):
            yield (
                f'datasets[{index}].reading: "disk": only for image folders and for data sets that `use` lists, not '
                f"for the source {shown(table.get('source'))}"
            )
        if "workers" in table and not disk:
            yield f'datasets[{index}].workers: {shown(table["workers"])}: only with reading = "disk"'


def _mask_augments(raw: Mapping[str, Any], datasets: list[dict[str, Any]]) -> Iterator[str]:
    for index, table in enumerate(datasets):
        if table.get("augment") == SEGMENTATION != raw.get("task"):
            yield f'datasets[{index}].augment: "{SEGMENTATION}": only for task = "{SEGMENTATION}": it cuts by masks'


def _after(methods: list[dict[str, Any]]) -> Iterator[str]:
    names = [name for table in methods if isinstance(name := table.get("name"), str)]
    waits: dict[str, list[str]] = {}
    for index, table in enumerate(methods):
        after = table.get("after", [])
        for position, other in enumerate(after if isinstance(after, list) else []):
            place = f"methods[{index}].after[{position}]"
            if other == table.get("name"):
                yield f"{place}: {shown(other)}: a method cannot come after itself"
            elif not isinstance(other, str) or other not in names:
                yield f"{place}: {shown(other)}: no such method; {choices(str(other), names)}"
            elif other in after[:position]:
                yield f"{place}: {shown(other)}: named twice"
            else:
                waits.setdefault(str(table.get("name")), []).append(other)
    loop = _loop(waits)
    if loop:
        yield f"methods.after: a circle, none of these can start: {' -> '.join(loop)}"


def _loop(waits: Mapping[str, list[str]]) -> list[str]:
    """One circle of ``waits``, or nothing: names are peeled off until only those in or behind a circle are left."""
    left = {name: set(others) for name, others in waits.items()}
    while done := [name for name, others in left.items() if not others & left.keys()]:
        for name in done:
            del left[name]
    if not left:
        return []
    path = [next(iter(left))]
    while path.count(path[-1]) == 1:
        path.append(min(left[path[-1]] & left.keys()))
    return path[path.index(path[-1]) :]
