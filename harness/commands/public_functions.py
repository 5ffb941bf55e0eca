"""Public functions of a module, read from its source: nothing is imported, so that a list of them is there at once."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

ROLE = re.compile(r":\w+:`[.~]?([^`]+)`")  # a reference of Sphinx


@dataclass(frozen=True, slots=True)
class PublicFunction:
    """``first``: paragraph of the docstring as plain text, "" without one; ``takes``: names of the parameters."""

    name: str
    first: str
    takes: tuple[str, ...]


def public_functions(module: str) -> list[PublicFunction]:
    """Functions that ``__all__`` names, else those without an underscore, in that order; also those that are passed on
    from another module of the package.
    """
    tree = _tree(module)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    origins = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }
    names = _declared_names(tree) or [name for name in defined if not name.startswith("_")]
    functions = [(name, defined.get(name) or _passed_on(origins.get(name))) for name in names]
    return [_function(name, node) for name, node in functions if node is not None]


def table_keys(module: str, name: str) -> list[str]:
    """Keys of the table that a module assigns to ``name`` as a literal of strings."""
    for node in _tree(module).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name and isinstance(node.value, ast.Dict):
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    return []


def _passed_on(origin: tuple[str, str] | None) -> ast.FunctionDef | None:
    if origin is None:
        return None
    functions = (node for node in _tree(origin[0]).body if isinstance(node, ast.FunctionDef))
    return next((node for node in functions if node.name == origin[1]), None)


def _function(name: str, node: ast.FunctionDef) -> PublicFunction:
    parameters = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    paragraph = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
    first = ROLE.sub(r"\1", paragraph).replace("``", "`")
    return PublicFunction(name, first, tuple(each.arg for each in parameters))


def _declared_names(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def _tree(module: str) -> ast.Module:
    """ModuleNotFoundError where the path has no such module. Parent packages are found without importing them."""
    top, *parts = module.split(".")
    spec = find_spec(top)
    for at in range(len(parts)):
        name = ".".join([top, *parts[: at + 1]])
        spec = None if spec is None else PathFinder.find_spec(name, spec.submodule_search_locations)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {module}", name=module)
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
