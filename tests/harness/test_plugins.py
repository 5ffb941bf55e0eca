"""Plugins: import strings resolved, options checked against signatures, clear words for what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import plugins
from harness.plugins import PluginError, PluginImportError, PluginVersionError
from harness.suite import SuiteError
from tests.harness import small
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
        (f"{FAKES}:no_method", {}, "does not say that it makes a method"),
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


@pytest.mark.parametrize("use", ["os:system", "shutil:rmtree", "antigravity:fly", "os.path:join", "subprocess:Popen"])
def test_the_standard_library_is_refused_before_anything_is_imported(use: str) -> None:
    with pytest.raises(PluginError, match="a module of Python's standard library makes neither methods nor backbones"):
        plugins.build(use, {})
    with pytest.raises(PluginError, match="standard library"):
        plugins.backbone(use, {})
    assert "antigravity" not in sys.modules


DECLARED = """
from __future__ import annotations
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from torch import nn
from harness.protocol import Method
if TYPE_CHECKING:
    from nowhere import Gone
CALLED = []
@dataclass
class Made:
    k: int = 1
    name: str = "made"
    def adapt(self, task): ...
def right(k: int = 1) -> Made: return Made(k)
def by_protocol() -> Method: return Made()
def either(k: int = 1) -> Made | Method: return Made()
@functools.cache
def wrapped() -> Made: return Made()
def silent(): CALLED.append(1)
def anything() -> Any: CALLED.append(1)
def text() -> str: CALLED.append(1)
def gone() -> Gone: CALLED.append(1)
def half() -> Made | None: CALLED.append(1)
def body(num_classes: int, width: int = 8) -> nn.Linear: return nn.Linear(width, num_classes)
"""


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("declared")
    (folder / "declared_plugin.py").write_text(DECLARED)
    sys.path.insert(0, str(folder))
    yield "declared_plugin"
    sys.path.remove(str(folder))


@pytest.mark.parametrize("name", ["Made", "right", "by_protocol", "either", "wrapped"])
def test_a_class_with_adapt_and_a_function_that_is_annotated_to_give_one_are_methods(declared: str, name: str) -> None:
    assert plugins.build(f"{declared}:{name}", {}).name == "made"


@pytest.mark.parametrize("use", ["silent", "anything", "text", "gone", "half", "body"])
def test_what_does_not_say_that_it_makes_a_method_is_not_called(declared: str, use: str) -> None:
    with pytest.raises(PluginError, match="does not say that it makes a method: name a class that has `adapt`, or"):
        plugins.build(f"{declared}:{use}", {})
    assert sys.modules[declared].CALLED == []


@pytest.mark.parametrize("use", ["torch:load", "torch.hub:load", "declared_plugin:right", "declared_plugin:silent"])
def test_what_does_not_say_that_it_makes_a_backbone_is_refused(declared: str, use: str) -> None:
    with pytest.raises(PluginError, match="does not say that it makes a backbone: name a subclass of torch.nn.Module"):
        plugins.backbone(use, {})
    assert plugins.backbone(f"{declared}:body", {"width": 4})(num_classes=3).out_features == 3


@pytest.mark.parametrize(
    ("use", "options", "said"),
    [
        ("right", {"k": "3"}, r"options.k: '3': input should be a valid integer"),
        ("right", {"k": 1.5}, r"options.k: 1.5: input should be a valid integer"),
        ("right", {"k": True}, r"options.k: True: input should be a valid integer"),
        ("Made", {"k": [1]}, r"options.k: \[1\]: input should be a valid integer"),
        ("right", {"l": 1}, "options.l: unknown option; allowed: k"),
    ],
)
def test_options_of_another_type_are_refused(declared: str, use: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        plugins.build(f"{declared}:{use}", options)


def test_what_the_bench_supplies_is_no_option() -> None:
    use = f"{FAKES}:backbone"
    plugins.backbone(use, {"width": 8})
    with pytest.raises(PluginError, match="num_classes: set by the bench itself"):
        plugins.backbone(use, {"num_classes": 8})
    with pytest.raises(PluginError, match="must take num_classes"):
        plugins.backbone("torch.nn:Linear", {"in_features": 1, "out_features": 1})


def test_options_that_a_method_refuses_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "class M:\n    def __init__(self, k: int): raise ValueError(f'k = {k}: must be even')\n    adapt = print\n"
    (tmp_path / "picky_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"options \{'k': 3\} were refused: k = 3: must be even"):
        plugins.build("picky_plugin:M", {"k": 3})


def test_a_module_lists_its_methods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "__all__ = ['m', 'N']\nN = 3\ndef m():\n    '''First line.\n\n    More.'''\ndef hidden(): ...\n"
    (tmp_path / "listed_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.describe_module("listed_plugin") == [{"name": "m", "first": "First line.", "takes": [], "card": {}}]
    (tmp_path / "unlisted_plugin.py").write_text(
        "from os.path import join\ndef m(k): ...\ndef n(): ...\ndef _o(k): ...\n"
    )
    assert [(each["name"], each["takes"]) for each in plugins.describe_module("unlisted_plugin")] == [
        ("m", ["k"]),
        ("n", []),
    ]


# --- one bad plugin among good ones ---------------------------------------------------------------------------------

METHOD = (
    "class Made:\n    name = 'made'\n    api = {api!r}\n    def adapt(self, task): ...\n"
    "def made() -> Made: return Made()\n"
)


@pytest.mark.parametrize("api", [0, 2, "1", 1.5, None])
def test_a_method_for_another_protocol_is_refused_with_both_numbers(
    api: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"api_{abs(hash(api))}_plugin"
    (tmp_path / f"{name}.py").write_text(METHOD.format(api=api))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginVersionError, match=rf"written for api = {api!r} of the protocol; this bench has 1"):
        plugins.build(f"{name}:made", {})


def test_a_method_for_this_protocol_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api_right_plugin.py").write_text(METHOD.format(api=1))
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.build("api_right_plugin:made", {}).api == 1
    assert not hasattr(plugins.build(f"{FAKES}:steady", {}), "api")


def test_two_methods_of_one_name_do_not_start() -> None:
    with pytest.raises(SuiteError, match=r"methods\[1\]\.name: 'same': duplicate of methods\[0\]\.name"):
        small.suite(methods=[{"use": "a:one", "name": "same"}, {"use": "b:two", "name": "same"}])


CARDED = """
class Made:
    def __init__(self, card=None):
        self.name = "made"
        if card is not None:
            self.card = card
    def adapt(self, task): ...
def full() -> Made: return Made({"title": "Full", "where": __import__("pathlib").Path("x")})
def bare() -> Made: return Made()
def needy(k) -> Made: return Made({"title": "never asked"})
def odd() -> Made: return Made("not a mapping")
"""


def test_cards_come_with_the_methods_that_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carded_methods.py").write_text(CARDED)
    monkeypatch.syspath_prepend(tmp_path)
    cards = {each["name"]: each["card"] for each in plugins.describe_module("carded_methods")}
    assert cards == {"Made": {}, "full": {"title": "Full", "where": "x"}, "bare": {}, "needy": {}, "odd": {}}


def test_the_methods_of_this_project_all_show_a_card() -> None:
    """Each can be made without options, so that a person sees what a suite would run."""
    found = plugins.describe_module("eavit.methods")
    assert found and all(each["first"].endswith(".") for each in found)
    assert [each["name"] for each in found if not each["card"]] == []
