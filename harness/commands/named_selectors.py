"""Selectors that methods' options name by an entry point, as import strings, whose code is part of a cell's id."""

from __future__ import annotations

from importlib import metadata

from harness.commands.public_functions import table_keys
from harness.suite import MethodSpec, Suite

GROUP = "eavit_bench.selectors"  # of entry points
TABLE = ("eavit.selection.selectors", "SELECTORS")
OPTIONS = ("select", "selector")  # of methods that choose by a selector


def with_import_strings(suite: Suite) -> Suite:
    """The suite with the import string of each selector that it names by an entry point. Nothing is imported; names
    of eavit's own selectors mean these.
    """
    points = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    named = {name: value for name, value in points.items() if name not in ("native", "router", *table_keys(*TABLE))}
    if not named:
        return suite
    return suite.model_copy(update={"methods": tuple(_resolved(method, named) for method in suite.methods)})


def _resolved(method: MethodSpec, named: dict[str, str]) -> MethodSpec:
    options = {
        key: named.get(value, value) if key in OPTIONS and isinstance(value, str) else value
        for key, value in method.options.items()
    }
    return method.model_copy(update={"options": options})
