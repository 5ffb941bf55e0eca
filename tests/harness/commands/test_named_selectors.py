"""Selectors by the name of an entry point: a suite's options hold their import strings."""

from __future__ import annotations

from importlib import metadata

import pytest

from eavit.selection import own_selectors
from harness.commands import named_selectors
from harness.commands.named_selectors import GROUP, with_import_strings
from tests.harness import small


def test_names_of_entry_points_become_import_strings_and_eavit_s_own_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [metadata.EntryPoint(name, f"rules:{name}", GROUP) for name in ("mine", "random", "native")]
    monkeypatch.setattr(named_selectors.metadata, "entry_points", lambda group: points if group == GROUP else [])
    options = [
        {"select": "mine", "other": "mine"},
        {"selector": "mine", "evaluations": 8},
        *({"select": name} for name in ("random", "native", "rules:x")),
    ]
    methods = [{"name": f"m{n}", "use": "m:a", "options": each} for n, each in enumerate(options)]
    resolved = with_import_strings(small.suite(methods=methods))
    assert [method.options for method in resolved.methods] == [
        {"select": "rules:mine", "other": "mine"},
        {"selector": "rules:mine", "evaluations": 8},
        *options[2:],
    ]


def test_a_suite_without_such_names_stays_as_it_is() -> None:
    suite = small.suite()
    assert with_import_strings(suite) is suite
    assert own_selectors.GROUP == GROUP
