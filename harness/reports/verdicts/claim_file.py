"""The file of claims beside a suite, ``suites/x.claims.toml``: strictly read, every fault reported at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, get_args

from pydantic import BaseModel, Field, ValidationError

from harness import toml
from harness.messages import choices
from harness.statistics.intervals import SCOPES, Scope
from harness.suite import STRICT, Label, Slug, Suite, SuiteError
from harness.toml import TomlError, key_path, unsupported_values

Metric = Literal["accuracy", "area", "macs", "latency_ms", "train_macs", "train_seconds", "over_budget"]
Direction = Literal["greater", "less"]
AT_BUDGET = ("accuracy", "macs", "latency_ms")
SHARES = ("accuracy", "area")


class Claim(BaseModel):
    """A minus B, or B minus A for ``direction = "less"``, is above the margin ``by``.

    ``by`` is in the metric's own unit (0.02 of accuracy is two points); below 0 it claims "not worse by more than".
    ``budget``: one of the suite's; ``"all"``: at every single one; ``"mean"``: a seed's mean over all of them.
    ``at_least``: on so many of the sets, each decided alone; without it the claim is about the mean over sets.
    ``over_budget`` has no B: no choice of A is over its budget.
    """

    model_config = STRICT
    id: Slug
    text: Label
    a: str
    b: str | None = None
    metric: Metric
    budget: float | str | None = None
    by: float = 0.0
    sets: str | tuple[str, ...] = "all"
    at_least: Annotated[int, Field(ge=1)] | None = None
    level: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    scope: Scope = "these sets"
    direction: Direction = "greater"


class _File(BaseModel):
    model_config = STRICT
    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]


def load_claims(path: Path, suite: Suite) -> tuple[Claim, ...]:
    """Read and check a claims file against its suite; SuiteError names every fault in it."""
    try:
        raw = toml.read(path)
    except OSError as error:
        raise SuiteError((f"{path}: cannot be read: {error.strerror}",)) from None
    except TomlError as error:
        raise SuiteError((str(error),)) from None
    return parse_claims(raw, suite, str(path))


def parse_claims(raw: Mapping[str, Any], suite: Suite, where: str) -> tuple[Claim, ...]:
    faults, read = list(unsupported_values(raw)), None
    if not faults:
        try:
            read = _File.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            faults += [_fault(detail) for detail in error.errors() if not {"budget", "sets"} & set(detail["loc"])]
        entries = raw.get("claims")
        faults += _cross(entries, suite) if isinstance(entries, list) else []
    if faults or read is None:
        raise SuiteError(tuple(f"{where}: {fault}" for fault in faults))
    return read.claims


def _fault(detail: Mapping[str, Any]) -> str:
    place, last, value = key_path(detail["loc"]), str(detail["loc"][-1]), detail["input"]
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key; {choices(last, (Claim if len(detail['loc']) > 1 else _File).model_fields)}"
    if detail["type"] == "missing":
        return f"{place}: missing key; it has no default"
    if detail["type"] == "literal_error":
        allowed = {"metric": get_args(Metric), "scope": SCOPES, "direction": get_args(Direction)}[last]
        return f"{place}: {value!r} is not known; {choices(str(value), allowed)}"
    if detail["type"] == "string_pattern_mismatch" and last == "id":
        return f"{place}: {value!r}: allowed are lower-case letters, digits, - and _"
    return f"{place}: {value!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _cross(entries: Sequence[Any], suite: Suite) -> list[str]:
    """Faults between keys and against the suite, from raw values: a file wrong in other ways gets them too."""
    seen: dict[str, int] = {}
    faults = []
    for at, entry in enumerate(entries):
        claim = entry if isinstance(entry, dict) else {}
        of_claim = [*_names(claim, suite), *_budget(claim, suite), *_sets(claim, suite), *_margin(claim)]
        faults += [f"claims[{at}].{fault}" for fault in of_claim]
        name = claim.get("id")
        if isinstance(name, str) and seen.setdefault(name, at) != at:
            faults.append(f"claims[{at}].id: {name!r}: duplicate of claims[{seen[name]}].id")
    return faults


def _names(claim: Mapping[str, Any], suite: Suite) -> Iterator[str]:
    names = [method.name for method in suite.methods]
    for key in ("a", "b"):
        if isinstance(name := claim.get(key), str) and name not in names:
            yield f"{key}: {name!r}: no such method in suite {suite.name!r}; {choices(name, names)}"
    if claim.get("a") == claim.get("b") is not None:
        yield f"b: {claim['b']!r}: the same as a"
    if claim.get("metric") == "over_budget":
        barred = [key for key in ("b", "by", "at_least", "direction", "scope", "level") if key in claim]
        yield from (f"{key}: {claim[key]!r}: metric 'over_budget' counts the choices of a alone" for key in barred)
    elif "b" not in claim:
        yield "b: missing key; every metric but 'over_budget' compares two methods"


def _budget(claim: Mapping[str, Any], suite: Suite) -> Iterator[str]:
    metric, budget = claim.get("metric"), claim.get("budget")
    allowed = [*(f"{value:g}" for value in suite.budgets), "all", "mean"]
    known = budget in ("all", "mean", *suite.budgets) and not isinstance(budget, bool)
    if metric in AT_BUDGET and budget is None:
        yield f"budget: missing key; metric {metric!r} is measured at budgets; {choices('', allowed)}"
    elif metric in AT_BUDGET and not known:
        yield f"budget: {budget!r}: not in suite {suite.name!r}; {choices(str(budget), allowed)}"
    elif metric in get_args(Metric) and metric not in AT_BUDGET and budget is not None:
        yield f"budget: {budget!r}: metric {metric!r} is of whole cells and takes none"
    if budget == "all" and "at_least" in claim:
        yield 'at_least: not with budget = "all"; claim one budget, or "mean"'


def _sets(claim: Mapping[str, Any], suite: Suite) -> Iterator[str]:
    sets, names = claim.get("sets", "all"), [entry.name for entry in suite.datasets]
    if sets != "all" and (not isinstance(sets, list) or not sets):
        yield f'sets: {sets!r}: must be "all" or a list; {choices(str(sets), names)}'
        return
    for at, name in enumerate([] if sets == "all" else sets):
        if name not in names:
            yield f"sets[{at}]: {name!r}: no such data set in suite {suite.name!r}; {choices(str(name), names)}"
        elif name in sets[:at]:
            yield f"sets[{at}]: {name!r}: named twice"
    most, least = len(names if sets == "all" else sets), claim.get("at_least")
    if _number(least) and least > most:
        yield f"at_least: {least}: there are only {most} sets"
    if least is not None and claim.get("scope") == "sets like these":
        yield "scope: 'sets like these' is about a mean over sets; with at_least each set is decided alone"


def _margin(claim: Mapping[str, Any]) -> Iterator[str]:
    by, metric = claim.get("by"), claim.get("metric")
    if metric in SHARES and _number(by) and abs(by) >= 1:
        yield f"by: {by}: {metric} is a share; 2 points are 0.02"


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
