"""Digests of code: what runs counts, at any depth of the project, and nothing else does."""

from __future__ import annotations

import ast
import importlib
import itertools
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from harness import code_digest

COUNT = itertools.count()


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable folder; each test uses a package name of its own, since finders remember."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    return folder


def fresh() -> str:
    return f"plug{next(COUNT)}"


def of(name: str) -> str:
    return code_digest.digest(f"{name}:method")


def plain(text: str) -> str:
    return code_digest._serialised(ast.parse(textwrap.dedent(text)))


def edit(path: Path, text: str) -> None:
    path.write_text(textwrap.dedent(text))


# --- what of a file counts ------------------------------------------------------------------------------------------

BARE = """\
import os
def method(a, b=1):
    text = '''kept  # as it is

      with its spaces~~
    '''
    return f"{a}#{b}" + text
class Thing:
    x = 1
"""
DRESSED = '''\
"""A docstring.

Of two paragraphs.
"""
# a comment

import os  # why


def method(a, b=1):~~
    """One more: ünïcode, and a # in it."""
    # indented
    text = \'\'\'kept  # as it is

      with its spaces~~
    \'\'\'

    return f"{a}#{b}" + text  # the end


class Thing:
    "A thing."

    x = 1
    """What x is."""
'''


BARE, DRESSED = (text.replace("~", " ") for text in (BARE, DRESSED))  # editors take away spaces at line ends


def test_a_module_is_there_whether_it_can_be_imported_or_not(importable: Path) -> None:
    name = fresh()
    write(importable, {f"{name}/__init__": "", f"{name}/part": "raise SystemExit"})
    assert code_digest.is_there(f"{name}.part:f") and not code_digest.is_there(f"{name}.other:f")
    assert not code_digest.is_there(f"{name}x:f")


def test_comments_docstrings_blank_lines_and_trailing_spaces_do_not_count() -> None:
    assert plain(DRESSED) == plain(BARE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x = 2"),
        ("x = 'a'", "x = 'b'"),
        ("x = '''a\n\nb'''", "x = '''a\nb'''"),
        ("x = '''a \nb'''", "x = '''a\nb'''"),
        ("x = f'''a \n{b}'''", "x = f'''a\n{b}'''"),
        ("x = '# a'", "x = '# b'"),
        ("f('a')", "f('b')"),
        ("if a:\n    b()\nc()", "if a:\n    b()\n    c()"),
        ("x = ('a'  # one\n     'b')", "x = ('a'\n     'c')"),
    ],
)
def test_what_runs_counts(before: str, after: str) -> None:
    assert plain(before) != plain(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(): 'doc'; return 1", "def f(): 'other'; return 1"),
        ("def f():\n    'é'\n    return 1", "def f():\n    return 1"),
        ("def f(): '''a\nb'''\nx = 1", "def f(): '''a'''\nx = 1"),
        ("x = ('a'  # one\n     'b')", "x = ('a'\n\n     # two\n     'b')"),
        ("x = 1 \\\n    + 2", "x = 1 \\\n    + 2  # three"),
        ("é = 'é'  # é\n", "é = 'é'\n"),
        ("x = 1\n\f\ny = 2", "x = 1\ny = 2\n"),
        ("x = '\u2028'  # a separator that is no line end", "x = '\u2028'"),
        ('x = f(a,\n      b="c")', "x = f(a, b='c',)"),
    ],
)
def test_what_does_not_run_does_not_count(before: str, after: str) -> None:
    assert plain(before) == plain(after)


def test_line_ends_and_byte_order_marks_do_not_count(importable: Path) -> None:
    one, two = fresh(), fresh()
    (importable / f"{one}.py").write_bytes(b"def method():\n    return '''a\nb'''\n")
    (importable / f"{two}.py").write_bytes(b"\xef\xbb\xbfdef method():\r\n    return '''a\r\nb'''\r\n")
    digests = [code_digest.parse_source(importable / f"{name}.py", "m").digest for name in (one, two)]
    assert digests[0] == digests[1]


def test_through_a_window_only_what_is_taken_counts(importable: Path) -> None:
    top = fresh()
    window = (
        '"""What there is."""\nfrom __future__ import annotations\nfrom .a import one, ONE as uno\nfrom .b import two\n'
        "LATER = {'three': '.c:three'}\ndef __getattr__(name): return LATER[name]\n"
    )
    write(
        importable,
        {
            f"{top}/__init__": "",
            f"{top}/m/__init__": window + '__all__ = ["one", "two", "uno"]\n',
            f"{top}/m/a": "ONE = 1\ndef one(): ...\n",
            f"{top}/m/b": "def two(): ...\n",
            f"{top}/user": f"from {top}.m import uno\n",
            f"{top}/all": f"import {top}.m\n",
        },
    )
    project = code_digest.Project(top)
    assert set(project.closure(f"{top}.m:two")) == {f"{top}.m.b"}
    assert set(project.closure(f"{top}.m:one")) == {f"{top}.m.a"}
    assert set(project.closure(f"{top}.user")) == {f"{top}.user", f"{top}.m.a"}
    assert {f"{top}.m", f"{top}.m.a", f"{top}.m.b"} <= set(project.closure(f"{top}.all"))
    assert f"{top}.m" in project.closure(f"{top}.m:strange")  # not passed on: the whole package answers for it
    (importable / top / "m" / "__init__.py").write_text(window + "print()\n")
    assert f"{top}.m.a" in code_digest.Project(top).closure(f"{top}.m:two")  # a window that does something is none


def test_the_annotation_of_a_function_is_read_where_it_is_written(importable: Path) -> None:
    top = fresh()
    write(
        importable,
        {
            f"{top}/__init__": "from .a import one as uno\n",
            f"{top}/a": "def one(k: int = 1) -> 'x.Listing': ...\ndef two(): ...\nthree = one\n",
        },
    )
    uses = (f"{top}.a:one", f"{top}:uno", f"{top}.a:two", f"{top}.a:three", f"{top}.no:one", "no_such_module:x")
    found = [code_digest.return_annotation(use) for use in uses]
    assert found == ["x.Listing"] * 2 + [""] * 4


# --- which files count ----------------------------------------------------------------------------------------------


def test_exactly_the_methods_that_import_a_module_change_with_it(importable: Path) -> None:
    top = fresh()
    write(
        importable,
        {
            f"{top}/__init__": "",
            f"{top}/a": "from . import shared\nimport torch, json\n",
            f"{top}/b": f"def method():\n    from {top}.sub.deep import g\n",
            f"{top}/c": "def method(): ...\n",
            f"{top}/shared": "X = 1\n",
            f"{top}/sub/__init__": "",
            f"{top}/sub/deep": "from ..shared import X\nfrom ...beyond import no\n",
        },
    )
    uses = [f"{top}.{name}" for name in "abc"]
    before = [of(use) for use in uses]

    def changed(file: str, text: str) -> str:
        path = importable / top / file
        old = path.read_text()
        path.write_text(old + text)
        now = [of(use) for use in uses]
        path.write_text(old)
        return "".join(use[-1] for use, x, y in zip(uses, before, now, strict=True) if x != y)

    assert changed("a.py", "Y = 2\n") == "a"
    assert changed("shared.py", "Y = 2\n") == "ab"
    assert changed("sub/deep.py", "Y = 2\n") == "b"
    assert changed("sub/__init__.py", "Y = 2\n") == "b"
    assert changed("__init__.py", "Y = 2\n") == "abc"
    assert changed("__init__.py", "from .c import method\n") == ""  # a window: nothing is taken through it
    assert changed("shared.py", "# said\n\n'''and said'''\n") == ""
    assert [of(use) for use in uses] == before


def test_a_helper_beside_a_plugin_counts_and_strangers_do_not(importable: Path) -> None:
    plugin, helper, other = fresh(), fresh(), fresh()
    write(importable, {plugin: f"import {helper}\nimport numpy, harness.plan\n", helper: "X = 1\n", other: "X = 1\n"})
    assert set(code_digest.Project(plugin).closure(plugin)) == {plugin, helper}
    write(importable / other, {f"{other}": ""})
    before = of(plugin)
    edit(importable / f"{helper}.py", "X = 2222\n")  # another size: the clock of a file system is coarse
    assert of(plugin) != before


def test_a_helper_in_another_folder_counts(importable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, helper = fresh(), fresh()
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    write(importable, {plugin: f"import {helper}, json, torch\n", f"elsewhere/{helper}": "X = 1\n"})
    assert set(code_digest.Project(plugin).closure(plugin)) == {plugin, helper}


def test_the_bench_is_not_part_of_a_plugin_that_lies_beside_it() -> None:
    found = code_digest.Project("tests").closure("tests.harness.fakes")  # which imports harness, its neighbour
    assert "tests.harness.fakes" in found
    assert {name.partition(".")[0] for name in found} == {"tests"}


def test_installed_neighbours_are_not_part_of_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, plugin, other = tmp_path / "site-packages", fresh(), fresh()
    write(folder, {f"{plugin}/__init__": f"import {other}\nfrom . import near\n", f"{plugin}/near": "", other: ""})
    monkeypatch.syspath_prepend(folder)
    assert set(code_digest.Project(plugin).closure(plugin)) == {plugin, f"{plugin}.near"}


def test_the_model_package_is_part_of_a_plugin_that_imports_it(importable: Path) -> None:
    plugin = fresh()
    write(importable, {plugin: "def method():\n    from eavit.space.product import Space\n"})
    found = code_digest.Project(plugin).closure(plugin)
    assert {plugin, "eavit.space.product", "eavit.model.submodel"} <= set(found)
    assert not {"eavit", "eavit.model.vit"} & set(found)  # eavit/__init__ only passes names on
    assert "eavit.selection.search" not in found


def test_imports_for_type_checkers_are_no_imports(importable: Path) -> None:
    plugin, helper = fresh(), fresh()
    text = f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {helper}\nelse:\n    import json\n"
    write(importable, {plugin: text, helper: ""})
    assert set(code_digest.Project(plugin).closure(plugin)) == {plugin}


def test_circles_end(importable: Path) -> None:
    a, b = fresh(), fresh()
    write(importable, {a: f"import {b}\n", b: f"import {a}\n"})
    assert set(code_digest.Project(a).closure(a)) == {a, b}


def test_the_folder_is_no_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top, found = fresh(), set()
    for place in ("here", "there"):
        write(tmp_path / place, {f"{top}/__init__": "from . import a\n", f"{top}/a": "X = 'data/w.bin'\n"})
        (tmp_path / place / top / "data").mkdir()
        (tmp_path / place / top / "data" / "w.bin").write_bytes(b"w")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / place)
            found.add(of(top))
    assert len(found) == 1


def test_data_files_that_a_module_declares_count(importable: Path) -> None:
    top = fresh()
    write(importable, {f"{top}/a": "DATA_FILES = ('data/w.bin', '../gone.txt')\n", f"{top}/b": "NAME = 'data/w.bin'\n"})
    (importable / top / "data").mkdir()
    (importable / top / "data" / "w.bin").write_bytes(b"one")
    found = code_digest.Project(top).closure(f"{top}.a")
    assert set(found) == {top, f"{top}.a", f"{top}.a/data/w.bin", f"{top}.a/../gone.txt"}
    assert found[f"{top}.a/../gone.txt"] == "missing"
    before = of(f"{top}.a"), of(f"{top}.b")
    (importable / top / "data" / "w.bin").write_bytes(b"two, and longer")
    after = of(f"{top}.a"), of(f"{top}.b")
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)


@pytest.mark.parametrize("value", ["(NAME,)", "'one'", "[1]", "f()", "tuple(x)"])
def test_data_files_that_cannot_be_read_off_are_refused_by_place(importable: Path, value: str) -> None:
    name = fresh()
    write(importable, {name: f"NAME = 'a'\nDATA_FILES: tuple = {value}\n"})
    with pytest.raises(code_digest.CodeError, match=rf"{name}.py:2: DATA_FILES: must be a tuple of strings"):
        of(name)


def test_the_shipped_weights_are_part_of_the_backbone() -> None:
    assert "eavit.weights/pretrained/pico_letters.safetensors" in code_digest.Project("eavit").closure("eavit.weights")


def test_what_is_missing_or_broken_has_a_digest_that_changes_when_it_is_mended(importable: Path) -> None:
    name = fresh()
    seen = {of(name), of(f"{name}.room"), of("no_such_house_at_all")}
    for text in ("def method(:\n", "def method(): 'open\n", "\0", "def method(): ...\n"):
        write(importable, {name: text})
        seen.add(of(name))
    assert len(seen) == 7


def test_an_editable_install_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """setuptools maps names to folders by a finder on sys.meta_path; no folder of sys.path holds the package."""
    from importlib.machinery import PathFinder

    name = fresh()
    write(tmp_path / "src", {f"{name}/__init__": "", f"{name}/a": "X = 1\n"})

    class Finder:
        @staticmethod
        def find_spec(wanted: str, path: object = None, target: object = None) -> object:
            return PathFinder.find_spec(wanted, [str(tmp_path / "src")]) if wanted == name else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert set(code_digest.Project(name).closure(f"{name}.a")) == {f"{name}.a"}


def test_nothing_is_executed(importable: Path) -> None:
    name = fresh()
    write(importable, {f"{name}/__init__": "raise SystemExit('executed')\n", f"{name}/a": "1 / 0\n"})
    assert len(code_digest.Project(name).closure(f"{name}.a")) == 2
    assert name not in sys.modules


def test_the_methods_of_eavit_are_read_fast_and_without_torch() -> None:
    script = """
        import sys, time
        from harness import code_digest
        began = time.process_time()
        code_digest.digests(["eavit.weights:pico_letters", *(f"eavit.methods:{m}" for m in "abcde")])
        print(time.process_time() - began, "torch" in sys.modules or "eavit" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    seconds, imported = done.stdout.split()
    assert float(seconds) < 0.9  # 0.2 when nothing else runs
    assert imported == "False"
    code_digest.digest("eavit.methods:ea_vit")
    began = time.process_time()
    code_digest.digest("eavit.methods:ea_vit")
    assert time.process_time() - began < 0.1  # files that look the same are not read again
