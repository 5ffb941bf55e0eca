"""``list``: methods, backbones and data sources, each method with its card."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import plugins
from harness.commands import listing
from harness.commands.options import CommandError

CARDED = """
__all__ = ["full", "bare", "needy", "odd"]

class Made:
    def __init__(self, card=None):
        self.name = "made"
        if card is not None:
            self.card = card
    def adapt(self, task): ...

def full() -> Made:
    '''A method with a card.'''
    about = {"title": "Full", "paper": "none", "parameters": {"k": [3, "paper"], "widths": [[1, 2], "ours"]}}
    return Made({**about, "ours": ["one thing " + "and more words " * 12, "another"], "deviations": []})

def bare() -> Made: return Made()
def needy(k) -> Made: return Made({"title": "never asked"})
def odd() -> Made: return Made("not a mapping")
"""


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "carded_plugin.py").write_text(CARDED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(listing, "METHODS", "carded_plugin")
    monkeypatch.setattr(listing, "call", lambda entry, module, deadline: plugins.describe_module(module))
    return "carded_plugin"


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
    assert "backbones:\n" in whole and "data:\n  digits" in whole and "title: Full" not in whole
    for what, title in (("backbones", "backbones:"), ("data", "data:"), ("selectors", "selectors:")):
        part = told(what)
        assert part.startswith(title) and part in whole and "methods:" not in part
    assert "  harness.data.published:dtd  5,640 photographs of textures" in told("data")
    for line in (
        *told("data").splitlines()[2:-1],
        *told("backbones").splitlines()[1:],
        *told("selectors").splitlines()[1:-1],
    ):
        assert line.endswith(".") and ":`" not in line, "whole sentences, without marks of Sphinx"


def test_another_word_is_refused_with_the_nearest(carded: str) -> None:
    with pytest.raises(CommandError, match="list backbone: unknown; allowed: methods, .*; nearest: backbones"):
        listing.show_list("backbone")


def test_a_list_is_read_and_imports_nothing_of_the_library(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom harness.commands import listing\nlisting.show_list()\n"
        "print([name for name in sys.modules if name in ('torch', 'timm', 'eavit')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert any(line.startswith("  eavit.methods:ea_vit  ") for line in lines)
    assert any(line.startswith("  eavit.weights:pico_letters  ") for line in lines)


def test_the_methods_of_this_project_are_listed_by_a_child(capsys: pytest.CaptureFixture[str]) -> None:
    listing.show_list("methods")
    out = capsys.readouterr().out
    assert "eavit.methods:ea_vit\n" in out and "  title: EA-ViT" in out
