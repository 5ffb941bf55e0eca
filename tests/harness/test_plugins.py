"""Plugins: import strings resolved, options checked against signatures, clear words for what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness import code_digest, plan, plugins
from harness.commands import check, listing
from harness.commands.options import AskError
from harness.data import loading
from harness.evaluation import execute
from harness.plugins import PluginError, PluginImportError, PluginVersionError
from harness.suite import SuiteError
from harness.sweep.cell_job import CellJob
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


# --- one bad plugin among good ones ---------------------------------------------------------------------------------

METHOD = (
    "class Made:\n    name = 'made'\n    api = {api!r}\n    def adapt(self, task): ...\ndef made(): return Made()\n"
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


def test_bad_plugins_are_all_listed_and_cost_only_their_own_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mixed_broken_plugin.py").write_text("raise OSError('no such device')\n")
    (tmp_path / "mixed_later_plugin.py").write_text(METHOD.format(api=7))
    monkeypatch.syspath_prepend(tmp_path)
    uses = ("mixed_broken_plugin:m", "mixed_later_plugin:made", "no_such_plugin_at_all:x", f"{FAKES}:steady")
    suite = small.suite(methods=[{"use": use, "name": name} for use, name in zip(uses, "abcd", strict=True)])
    found = check.faults(suite, "small.toml")
    assert [fault.fatal for fault in found] == [False] * 3
    for fault, index, said in zip(found, range(3), ("no such device", "api = 7", "no such module"), strict=True):
        assert fault.text.startswith(f"small.toml: methods[{index}]: use = {uses[index]!r}: ")
        assert said in fault.text
    ended = {}
    seen = loading.load_dataset(suite.datasets[0], suite.input).fingerprint
    prints = plan.Prints(code_digest.digests([suite.backbone.use, *uses]), {"digits": seen}, {})
    for cell in plan.cells(suite, prints):
        job = CellJob(cell=cell, suite=suite, given={}, commit=None)
        ended[cell.method] = execute.run_cell(job, tmp_path / cell.id, lambda phase, done, total: None).record
    assert {name: record.status for name, record in ended.items()} == dict(
        zip("abcd", ["failed"] * 3 + ["ok"], strict=True)
    )
    assert "PluginVersionError: use = 'mixed_later_plugin:made': was written for api = 7" in ended["b"].reason


def test_two_methods_of_one_name_do_not_start() -> None:
    with pytest.raises(SuiteError, match=r"methods\[1\]\.name: 'same': duplicate of methods\[0\]\.name"):
        small.suite(methods=[{"use": "a:one", "name": "same"}, {"use": "b:two", "name": "same"}])


def test_missing_data_is_a_fault_of_its_set_alone(tmp_path: Path) -> None:
    suite = small.suite(datasets=[{"name": "digits"}, {"name": "x", "source": "folder", "path": str(tmp_path / "no")}])
    (fault,) = check.faults(suite, "small.toml")
    assert (fault.fatal, fault.text.partition(": path")[0]) == (
        False,
        'small.toml: datasets[1]: data set "x" (source "folder")',
    )


# --- what a module offers ---------------------------------------------------------------------------------------------

CARDED = """
__all__ = ["full", "bare", "needy", "odd"]

class Made:
    def __init__(self, card=None):
        self.name = "made"
        if card is not None:
            self.card = card
    def adapt(self, task): ...

def full():
    '''A method with a card.'''
    about = {"title": "Full", "paper": "none", "parameters": {"k": [3, "paper"], "widths": [[1, 2], "ours"]}}
    return Made({**about, "ours": ["one thing " + "and more words " * 12, "another"], "deviations": []})

def bare(): return Made()
def needy(k): return Made({"title": "never asked"})
def odd(): return Made("not a mapping")
"""


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "carded_plugin.py").write_text(CARDED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(listing, "METHODS", "carded_plugin")
    return "carded_plugin"


def test_cards_come_with_the_methods_that_have_one(carded: str) -> None:
    found = {name: (first, card) for name, first, card in plugins.cards(carded)}
    assert list(found) == ["full", "bare", "needy", "odd"]
    assert found["full"][0] == "A method with a card." and found["full"][1]["title"] == "Full"
    assert [found[name][1] for name in ("bare", "needy", "odd")] == [{}, {}, {}]


def test_list_methods_prints_each_with_its_card(carded: str, capsys: pytest.CaptureFixture[str]) -> None:
    listing.show_list("methods")
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[:3] == ["carded_plugin:full", "  A method with a card.", "  title: Full"]
    assert "    - k = 3  (paper)" in lines and "    - widths = [1, 2]  (ours)" in lines
    assert "  deviations:" not in lines  # nothing to tell is not told
    assert max(map(len, lines)) <= listing.WIDTH
    assert [line for line in lines if line and not line.startswith(" ")] == [
        f"carded_plugin:{name}" for name in ("full", "bare", "needy", "odd")
    ]


def test_list_alone_prints_all_and_one_word_a_part_of_it(carded: str, capsys: pytest.CaptureFixture[str]) -> None:
    def told(what: str | None) -> str:
        listing.show_list(what)
        return capsys.readouterr().out

    whole = told(None)
    assert whole.startswith("methods:\n  carded_plugin:full  A method with a card.\n  carded_plugin:bare\n")
    assert "backbones:\n" in whole and "data sources:\n  digits" in whole and "title: Full" not in whole
    for what, title in (("backbones", "backbones:"), ("data", "data sources:")):
        part = told(what)
        assert part.startswith(title) and part in whole and "methods:" not in part


def test_another_word_is_refused_with_the_nearest(carded: str) -> None:
    with pytest.raises(AskError, match="list backbone: unknown; allowed: methods, backbones, data; nearest: backbones"):
        listing.show_list("backbone")


def test_the_methods_of_this_project_all_show_a_card() -> None:
    """Each can be made without options, so that a person sees what a suite would run."""
    found = plugins.cards("eavit.methods")
    assert found and all(first.endswith(".") for _, first, _ in found)
    bare = [name for name, _, card in found if not card]
    assert not bare, f"no card: {bare}"
