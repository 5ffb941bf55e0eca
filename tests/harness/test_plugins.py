"""Plugins: import strings resolved, options checked against signatures, clear words for what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness import plugins
from harness.plugins import PluginError, PluginImportError
from tests.harness.small import FAKES


def test_a_method_is_built_with_its_options() -> None:
    assert plugins.build(f"{FAKES}:follower", {"of": "x"}).name == "follower"


@pytest.mark.parametrize(
    ("use", "options", "said"),
    [
        ("steady", {}, "must be written module:attribute"),
        (f"{FAKES}:staedy", {}, "has no 'staedy'; allowed: .*; nearest: steady"),
        (f"{FAKES}:not_callable", {}, "is int, not a callable"),
        (f"{FAKES}:steady", {"secnds": 1}, "options.secnds: unknown option; allowed: seconds, tag; nearest: seconds"),
        (f"{FAKES}:follower", {}, "options.of: missing; it has no default"),
        (f"{FAKES}:follower", {"off": 1}, "options.off: unknown option.*options.of: missing"),
        (f"{FAKES}:no_method", {}, "gave object, which is no method: it lacks name and adapt"),
        (f"{FAKES}:WIDTHS", {}, "is tuple, not a callable"),
    ],
)
def test_what_is_wrong_is_said(use: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        plugins.build(use, options)


@pytest.mark.parametrize("module", ["no_such_house", "no_such_house.room", "harness.no_such_room"])
def test_a_module_that_is_not_there_is_an_import_error(module: str) -> None:
    with pytest.raises(PluginImportError, match=f"{module} cannot be imported: no such module"):
        plugins.build(f"{module}:x", {})


def test_a_module_that_fails_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_plugin.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "broken_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginImportError, match="it needs no_such_package_at_all"):
        plugins.resolve("needy_plugin:x")
    with pytest.raises(PluginImportError, match="fails at import: ZeroDivisionError"):
        plugins.resolve("broken_plugin:x")
    assert "broken_plugin" not in sys.modules


def test_what_the_bench_supplies_is_no_option() -> None:
    use = f"{FAKES}:backbone"
    plugins.check_options(use, {"width": 8}, supplied=("num_classes",))
    with pytest.raises(PluginError, match="num_classes: set by the bench itself"):
        plugins.check_options(use, {"num_classes": 8}, supplied=("num_classes",))
    with pytest.raises(PluginError, match="must take num_classes"):
        plugins.check_options(f"{FAKES}:steady", {}, supplied=("num_classes",))


def test_options_that_a_method_refuses_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "picky_plugin.py").write_text("def m(k: int):\n    raise ValueError(f'k = {k}: must be even')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"options \{'k': 3\} were refused: k = 3: must be even"):
        plugins.build("picky_plugin:m", {"k": 3})


def test_a_module_lists_its_methods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "__all__ = ['m', 'N']\nN = 3\ndef m():\n    '''First line.\n\n    More.'''\ndef hidden(): ...\n"
    (tmp_path / "listed_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.describe("listed_plugin") == [("m", "First line.")]
    (tmp_path / "unlisted_plugin.py").write_text(
        "from os.path import join\ndef m(k): ...\ndef n(): ...\ndef _o(k): ...\n"
    )
    assert plugins.describe("unlisted_plugin") == [("m", ""), ("n", "")]
    assert plugins.describe("unlisted_plugin", taking="k") == [("m", "")]
