"""The digest of what an import string would run, found by reading: nothing is imported, nothing is executed.

A project is the top-level module or package that the import string names, the modules that lie beside it (not those
of a site-packages folder) and, for a stranger's plugin that imports it, ``eavit``. The digest covers the named module
and all modules it imports from its project, at any depth, each with its parent packages; and every data file that one
of these names by a string, relative to its own folder ("pretrained/pico_letters.safetensors"). Of a module only what
runs counts: comments, blank lines, trailing spaces and strings that stand alone (docstrings) are left out.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path

BENCH = "harness"  # never part of a project: what the bench means is said by its version numbers
LIBRARY = frozenset({"eavit"})  # part of every project that imports it
INSTALLED = frozenset({"site-packages", "dist-packages"})
SUFFIXES = (".py", *EXTENSION_SUFFIXES)
DATA_NAME = re.compile(r"(?=.*\.)[^\x00-\x1f\\*?:]{3,200}")  # a string that could be the name of a data file
_OPEN = {getattr(tokenize, name, -1) for name in ("FSTRING_START", "TSTRING_START")}  # from Python 3.12 and 3.14 on
_CLOSE = {getattr(tokenize, name, -1) for name in ("FSTRING_END", "TSTRING_END")}

Place = tuple[int, int]  # line from 1, column from 0


@dataclass(frozen=True, slots=True)
class Source:
    """One file read: the digest of what runs, the modules it imports, what data files it may name."""

    digest: str
    imports: tuple[str, ...]  # absolute names; ``from a import b`` is "a:b"
    window: Mapping[str, str] | None  # name -> where it is taken from, of a package that does nothing else
    names: tuple[str, ...]  # strings that could be names of data files


def digest(use: str) -> str:
    """SHA-256 of the code behind ``module:attribute``. What is not there or cannot be parsed has a digest too."""
    return digests([use])[use]


def digests(uses: Iterable[str]) -> dict[str, str]:
    """As :func:`digest`, for many import strings in one look at the files."""
    projects: dict[str, Project] = {}
    modules: dict[str, str] = {}
    for use in dict.fromkeys(uses):
        name = use.partition(":")[0]
        top = name.partition(".")[0]
        entries = projects.setdefault(top, Project(top)).closure(use)
        text = "\n".join(f"{key} {entries[key]}" for key in sorted(entries)) if entries else f"no module {name}"
        modules[use] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return modules


class Project:
    """Where the modules of one project lie. Folders are listed once: it is a look at one moment."""

    def __init__(self, top: str) -> None:
        self.top = top
        self._roots = {top: _locations(top)}
        beside = {root.parent for root in self._roots[top] if INSTALLED.isdisjoint(root.parts)}
        self._beside = beside if top not in sys.stdlib_module_names else set()
        self._listed: dict[str, frozenset[str]] = {}

    def closure(self, name: str) -> dict[str, str]:
        """Module or data file -> digest, for ``name`` (a module or ``module:attribute``) and all that it imports.

        Empty where there is no such module.
        """
        found: dict[str, str] = {}
        seen: set[str] = set()
        waiting = [name] if self.find(name.partition(":")[0]) else []
        while waiting:
            wanted = waiting.pop()
            if wanted in seen:
                continue
            seen.add(wanted)
            module, colon, attribute = wanted.partition(":")
            if colon:
                waiting.append(self._behind(module, attribute))
                continue
            file = self.find(module)
            if file is None:
                continue
            waiting.extend(parent for parent in _above(module) if self._window(parent) is None)
            if not file.suffix:
                found[module] = "a folder"
                continue
            source = read(file, module, *stamp(file))
            found[module] = source.digest
            waiting.extend(source.imports)
            found |= {
                f"{module}/{path.relative_to(file.parent)}": file_digest(path) for path in self._data(source, file)
            }
        return found

    def _behind(self, module: str, attribute: str) -> str:
        """Where ``from module import attribute`` gets it: a module inside, through a window, or the module itself."""
        if self.find(f"{module}.{attribute}") is not None:
            return f"{module}.{attribute}"
        return (self._window(module) or {}).get(attribute, module)

    def _window(self, module: str) -> Mapping[str, str] | None:
        file = self.find(module)
        return read(file, module, *stamp(file)).window if file is not None and file.suffix == ".py" else None

    def find(self, name: str) -> Path | None:
        """The file of a module of this project, or the folder of a package that has no ``__init__``."""
        top, *rest = name.split(".")
        for root in self._places(top):
            base = root.joinpath(*rest)
            path = self._module(base / "__init__") or self._module(base)
            if path is not None:
                return path
            if base.name in self._names(base.parent) and base.is_dir():
                return base
        return None

    def _places(self, top: str) -> tuple[Path, ...]:
        if top not in self._roots:
            near = any(top in self._names(folder) or self._module(folder / top) for folder in self._beside)
            where = _locations(top) if (near or top in LIBRARY) and top != BENCH else ()
            self._roots[top] = tuple(root for root in where if top in LIBRARY or root.parent in self._beside)
        return self._roots[top]

    def _module(self, base: Path) -> Path | None:
        names = self._names(base.parent)
        return next((base.parent / name for end in SUFFIXES if (name := base.name + end) in names), None)

    def _data(self, source: Source, file: Path) -> Iterator[Path]:
        """Cheap to say no to: most strings have no file name of their folder in front."""
        for text in source.names:
            path = Path(text)
            if path.parts[0] in self._names(file.parent) and ".." not in path.parts and (file.parent / path).is_file():
                yield file.parent / path

    def _names(self, folder: Path) -> frozenset[str]:
        place = str(folder)
        if place not in self._listed:
            self._listed[place] = frozenset(os.listdir(place)) if os.path.isdir(place) else frozenset()  # noqa: PTH112, PTH208
        return self._listed[place]


def _locations(top: str) -> tuple[Path, ...]:
    """``folder/top`` for each folder that the import system finds the top-level module or package in."""
    spec = _spec(top)
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(
            Path(os.path.realpath(Path(place).parent), Path(place).name) for place in spec.submodule_search_locations
        )
    return (Path(os.path.realpath(Path(spec.origin).parent), top),) if spec.has_location and spec.origin else ()


def _above(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


def _spec(top: str) -> ModuleSpec | None:
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: imported already, by some unusual way
        found = None
    return found or PathFinder.find_spec(top, [str(Path.cwd())])  # cells import from the working folder too


def stamp(path: Path) -> tuple[int, int, int]:
    seen = path.stat()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; the process remembers it for as long as the file looks the same."""
    return _hashed(path, *stamp(path))


@cache
def _hashed(path: Path, *stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def read(file: Path, module: str, *stamp: int) -> Source:
    """One file. What cannot be parsed, compiled modules among it, counts by its bytes."""
    raw = file.read_bytes()
    try:
        text = _decoded(raw)
        seen = _Seen(ast.parse(text), module if file.stem == "__init__" else module.rpartition(".")[0])
        running = normalised(text, seen.lone)
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError):
        return Source(hashlib.sha256(raw).hexdigest(), (), None, ())
    names = sorted(text for text in seen.strings if DATA_NAME.fullmatch(text))
    digest = hashlib.sha256(running.encode("utf-8", "surrogatepass")).hexdigest()
    return Source(digest, tuple(seen.imports), seen.window if file.stem == "__init__" else None, tuple(names))


def _decoded(raw: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return io.TextIOWrapper(io.BytesIO(raw), encoding).read()  # line ends of any kind become \n


def normalised(text: str, lone: Iterable[ast.Constant]) -> str:
    """The source without comments, blank lines, trailing spaces and the ``lone`` strings.

    Cut by position and otherwise left as written, so that every version of Python gives the same.
    """
    lines = list(io.StringIO(text))
    comments, held = _tokens(text)
    for (top, left), (bottom, right) in sorted([*comments, *(_span(node, lines) for node in lone)], reverse=True):
        lines[top - 1] = lines[top - 1][:left] + lines[bottom - 1][right:]
        lines[top:bottom] = [""] * (bottom - top)
        inner = bottom in held
        held -= set(range(top, bottom)) | ({bottom} if bottom > top else set())
        held |= {top} if inner else set()
    kept = (line if row in held else line.rstrip() + "\n" for row, line in enumerate(lines, start=1))
    return "".join(line for row, line in enumerate(kept, start=1) if row in held or line.strip())


def _tokens(text: str) -> tuple[list[tuple[Place, Place]], set[int]]:
    """Where comments are; and lines whose end lies inside a string, where spaces count."""
    comments: list[tuple[Place, Place]] = []
    held: set[int] = set()
    opened: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.append((token.start, token.end))
        elif token.type in _OPEN:
            opened.append(token.start[0])
        elif token.type in _CLOSE:
            held.update(range(opened.pop(), token.end[0]))
        elif token.type == tokenize.STRING:
            held.update(range(token.start[0], token.end[0]))
    return comments, held


def _span(node: ast.expr, lines: list[str]) -> tuple[Place, Place]:
    first, last = node.lineno, node.end_lineno or node.lineno
    return (first, _column(lines[first - 1], node.col_offset)), (last, _column(lines[last - 1], node.end_col_offset))


def _column(line: str, offset: int | None) -> int:
    """ast counts bytes of UTF-8, we count characters."""
    return len(line.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "surrogatepass"))


class _Seen:
    """What one walk over a module finds. Imports that only type checkers see are left out."""

    def __init__(self, tree: ast.Module, package: str) -> None:
        self.imports: dict[str, None] = {}
        self.strings: set[str] = set()
        self.lone: list[ast.Constant] = []
        self.window = _passed_on(tree, package)
        waiting: list[ast.AST] = [tree]
        while waiting:
            node = waiting.pop()
            kind = type(node)
            if kind is ast.Constant:
                self.strings |= {node.value} if isinstance(node.value, str) else set()  # type: ignore[attr-defined]
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports |= dict.fromkeys(_imported(node, package))
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                self.lone += [node.value] if isinstance(node.value.value, str) else []
            elif isinstance(node, ast.If) and _for_checkers(node.test):
                waiting.extend(node.orelse)
            else:
                waiting.extend(ast.iter_child_nodes(node))


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    """Absolute names. ``package``: of the module in which the statement stands; each dot above one goes up by one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    parts = package.split(".") if package else []
    if node.level > len(parts):
        return  # beyond the top: it fails when it runs
    above = parts[: len(parts) - node.level + 1] if node.level else []
    base = ".".join([*above, *filter(None, [node.module])])
    yield from (base if alias.name == "*" else f"{base}:{alias.name}" for alias in node.names)


def _passed_on(tree: ast.Module, package: str) -> Mapping[str, str] | None:
    """What a module passes on, by name, if it does nothing else: ``from a import b``, ``__all__``, a docstring."""
    names: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and all(alias.name != "*" for alias in node.names):
            taken = zip(node.names, _imported(node, package), strict=False)
            names |= {alias.asname or alias.name: source for alias, source in taken}
        elif isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]:
            continue
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return None
    return names


def _for_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
