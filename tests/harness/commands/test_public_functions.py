"""What is read of a module equals what importing it shows."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from harness.commands.public_functions import public_functions, table_keys


@pytest.mark.parametrize("name", ["eavit.methods", "eavit.weights", "harness.plugins"])
def test_functions_are_those_that_an_import_shows(name: str) -> None:
    module = import_module(name)
    found = {each.name: each for each in public_functions(name)}
    public = getattr(module, "__all__", None) or [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == name and not key.startswith("_")
    ]
    assert list(found) == list(public)
    for key, each in found.items():
        function = getattr(module, key)
        paragraph = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
        assert each.first == re.sub(r":\w+:`[.~]?([^`]+)`", r"\1", paragraph).replace("``", "`")
        named = [p.name for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_KEYWORD,)]
        assert list(each.takes) == named


def test_keys_of_a_table_are_those_that_an_import_shows() -> None:
    name = "eavit.selection.selectors"
    table = import_module(name).SELECTORS
    assert table_keys(name, "SELECTORS") == list(table)
    functions = {each.name: each.first for each in public_functions(name)}
    assert all(functions[key].endswith(".") for key in table)  # one sentence each, as `list` shows them
    assert table_keys(name, "Policy") == []


def test_a_module_without_a_source_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no module named eavit\.nothing"):
        public_functions("eavit.nothing")


def test_functions_are_read_without_executing_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "harmful.py").write_text("raise SystemExit\ndef made(a, *, b=1):\n    'Makes it.'\n")
    monkeypatch.syspath_prepend(tmp_path)
    (one,) = public_functions("harmful")
    assert (one.name, one.first, one.takes) == ("made", "Makes it.", ("a", "b"))
