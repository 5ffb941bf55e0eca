"""Digest of the code behind an import string, found by reading: nothing is imported, nothing is executed.

A project is the top-level module or package that the import string names, ``eavit``, and all modules that are not
installed in a site-packages folder; the bench itself is in none. The digest covers the named module and all modules of
its project that it imports, at any depth, each with its parent packages. Of a module its syntax tree counts, without
docstrings. A module that reads data files names them, relative to its folder::

    DATA_FILES = ("pretrained/pico_letters.safetensors",)
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path

BENCH, LIBRARY = "harness", "eavit"  # the bench has version numbers of its own
INSTALLED = frozenset({"site-packages", "dist-packages"})
TABLE = "DATA_FILES"  # name of the tuple of data files in a module
FOLLOWED = 10  # packages that pass a name on, until the function itself


class CodeError(ValueError):
    """Raised where a module's DATA_FILES cannot be read without running it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Content of one file: the digest of its syntax tree, absolute names of what it imports, its data files."""

    digest: str
    imports: tuple[str, ...]  # ``from a import b`` is "a:b"
    passed_on: Mapping[str, str] | None  # name -> where it comes from, of a package that only passes names on
    data_files: tuple[tuple[str, Path], ...] = ()  # name and path


def digest(use: str) -> str:
    """SHA-256 of the code behind ``module:attribute``. Missing modules and such that cannot be parsed have one too."""
    return digests([use])[use]


def digests(uses: Iterable[str]) -> dict[str, str]:
    """Digests as by :func:`digest`, for many import strings in one pass over the files."""
    projects: dict[str, Project] = {}
    by_use: dict[str, str] = {}
    for use in uses:
        name = use.partition(":")[0]
        top = name.partition(".")[0]
        if top not in projects:
            projects[top] = Project(top)
        entries = projects[top].closure(use)
        text = "\n".join(f"{key} {entries[key]}" for key in sorted(entries)) or f"no module {name}"
        by_use[use] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return by_use


def is_there(use: str) -> bool:
    """Return whether the module of ``module:attribute`` can be found; nothing is imported."""
    module = use.partition(":")[0]
    return Project(module.partition(".")[0]).find(module) is not None


def return_annotation(use: str) -> str:
    """Return annotation of the function that ``module:attribute`` names, as written; empty where none is seen."""
    project, name = Project(use.partition(".")[0].partition(":")[0]), use
    for _ in range(FOLLOWED):
        module, _, attribute = name.partition(":")
        origin = project.origin(module, attribute) if attribute else module
        if ":" not in origin:
            spec = project.find(origin)
            return _annotation(spec.origin, attribute) if spec is not None and spec.has_location else ""
        name = origin
    return ""


def _annotation(file: str | None, function: str) -> str:
    try:
        tree = ast.parse(Path(file or "").read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function and node.returns is not None:
            return ast.unparse(node.returns).strip("'\"")
    return ""


class Project:
    """Modules of one project. Folders are listed once: it is a look at one moment."""

    def __init__(self, top: str) -> None:
        _finder.cache_clear()
        self._specs = {top: _top_spec(top)}

    def closure(self, name: str) -> dict[str, str]:
        """Module or data file -> digest, for ``name`` (a module or ``module:attribute``) and all that it imports.

        Empty where there is no such module.
        """
        entries: dict[str, str] = {}
        seen: set[str] = set()
        waiting = [name] if self.find(name.partition(":")[0]) else []
        while waiting:
            wanted = waiting.pop()
            if wanted in seen:
                continue
            seen.add(wanted)
            module, _, attribute = wanted.partition(":")
            if attribute:
                waiting.append(self.origin(module, attribute))
            elif (source := self._source(module)) is not None:
                waiting.extend(parent for parent in _parents(module) if self._passed_on(parent) is None)
                waiting.extend(source.imports)
                entries[module] = source.digest
                entries |= {f"{module}/{name}": _data_digest(path) for name, path in source.data_files}
        return entries

    def find(self, name: str) -> ModuleSpec | None:
        """Spec of a module of this project; None: not there, or not of this project."""
        if name not in self._specs:
            self._specs[name] = self._look(name)
        return self._specs[name]

    def _look(self, name: str) -> ModuleSpec | None:
        parent = name.rpartition(".")[0]
        if parent:
            above = self.find(parent)
            places = (above.submodule_search_locations if above is not None else None) or ()
            return next(filter(None, (_finder(place).find_spec(name) for place in places)), None)
        if name == BENCH or name in sys.stdlib_module_names:
            return None
        spec = _top_spec(name)
        return spec if name == LIBRARY or (spec is not None and not _is_installed(spec)) else None

    def _source(self, module: str) -> Source | None:
        spec = self.find(module)
        if spec is None:
            return None
        if not spec.has_location or spec.origin is None:
            return Source("a folder", (), None)
        file = Path(spec.origin)
        return parse_source(file, module, *stamp(file))

    def origin(self, module: str, attribute: str) -> str:
        """Module that ``from module import attribute`` means: a submodule, what the package re-exports, or itself."""
        if self.find(f"{module}.{attribute}") is not None:
            return f"{module}.{attribute}"
        return (self._passed_on(module) or {}).get(attribute, module)

    def _passed_on(self, module: str) -> Mapping[str, str] | None:
        source = self._source(module)
        return source.passed_on if source is not None else None


@cache
def _finder(folder: str) -> FileFinder:
    return FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES))


def _top_spec(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: imported already, by some unusual way
        return PathFinder.find_spec(top)


def _is_installed(spec: ModuleSpec) -> bool:
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(not INSTALLED.isdisjoint(Path(place).parts) for place in places)


def _parents(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


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


def _data_digest(path: Path) -> str:
    return file_digest(path) if path.is_file() else "missing"


@cache
def parse_source(file: Path, module: str, *stamp: int) -> Source:
    """One file. What cannot be parsed, compiled modules among it, counts by its bytes."""
    raw, is_package = file.read_bytes(), file.stem == "__init__"
    package = module if is_package else module.rpartition(".")[0]
    try:
        tree = ast.parse(raw)
        text = _serialised(tree)
    except (SyntaxError, ValueError, RecursionError):
        return Source(hashlib.sha256(raw).hexdigest(), (), None)
    return Source(
        digest=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        imports=tuple(dict.fromkeys(_imports(tree, package))),
        passed_on=_names_passed_on(tree, package) if is_package else None,
        data_files=_data_files(tree, file),
    )


def _serialised(node: object) -> str:
    """A syntax tree as text that is equal for every version of Python: without empty fields and docstrings."""
    if isinstance(node, ast.AST):
        parts = []
        for name in node._fields:  # plain loops: planning a suite spends most of its time here
            value = getattr(node, name, None)
            if value is not None and value != []:
                parts.append(f"{name}={_serialised(value)}")
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join([_serialised(each) for each in node if not _is_docstring(each)])}]"
    return repr(node)


def _is_docstring(node: object) -> bool:
    """Return whether this is a statement of a string alone."""
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Absolute names of all that a module imports, but for what only type checkers see."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imported(node, package)
        elif isinstance(node, ast.If) and _for_checkers(node.test):
            waiting.extend(node.orelse)
        elif not isinstance(node, ast.expr):
            waiting.extend(ast.iter_child_nodes(node))


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    """``package``: of the module in which the statement stands; each dot above one goes up by one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    parts = package.split(".") if package else []
    if node.level > len(parts):
        return  # beyond the top: it fails when it runs
    above = parts[: len(parts) - node.level + 1] if node.level else []
    base = ".".join([*above, *filter(None, [node.module])])
    yield from (base if alias.name == "*" else f"{base}:{alias.name}" for alias in node.names)


def _names_passed_on(tree: ast.Module, package: str) -> Mapping[str, str] | None:
    """Names that a module re-exports, if it does nothing else: ``from a import b``, ``__all__``, a docstring.

    Names that it imports when they are first used are not among them; a table of these and ``__getattr__`` do no harm.
    """
    names: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and all(alias.name != "*" for alias in node.names):
            taken = zip(node.names, _imported(node, package), strict=False)
            names |= {alias.asname or alias.name: source for alias, source in taken}
        elif not (_is_docstring(node) or _assigned(node, "__all__") or _is_for_later_imports(node)):
            return None
    return names


def _is_for_later_imports(node: ast.stmt) -> bool:
    """Return whether this is ``__getattr__``, an import for type checkers, or a table of literals."""
    match node:
        case ast.FunctionDef(name="__getattr__"):
            return True
        case ast.If(test=test, orelse=[]):
            return _for_checkers(test)
        case ast.Assign(value=ast.Dict(values=values)):
            return all(isinstance(value, ast.Constant) for value in values)
    return False


def _data_files(tree: ast.Module, file: Path) -> tuple[tuple[str, Path], ...]:
    for value in filter(None, (_assigned(node, TABLE) for node in tree.body)):
        names = [getattr(each, "value", None) for each in getattr(value, "elts", [None])]
        if not all(isinstance(name, str) for name in names):
            raise CodeError(f"{file}:{value.lineno}: {TABLE}: must be a tuple of strings, each written out in full")
        return tuple((str(name), file.parent / str(name)) for name in names)
    return ()


def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    """The value, if this statement assigns one to ``name``."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    named = [getattr(target, "id", "") for target in targets] == [name]
    return node.value if named and isinstance(node, ast.Assign | ast.AnnAssign) else None


def _for_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
