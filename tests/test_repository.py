"""Rules of the repository itself, cheap enough for every run."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from harness import suite

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("eavit", "harness")
TEXT = {".py", ".toml", ".ini", ".md", ".txt", ".sh", ".json", ".csv", ".cfg", ".yml", ".yaml", ".svg", ".html", ""}
HEAVY = ("torch", "torchvision", "timm", "accelerate", "pandas", "scipy", "sklearn", "matplotlib", "pymoo")
MACHINE_PATH = re.compile(r"(?:^|[^A-Za-z0-9._-])/(?:work|tmp|root|home|Users)/[A-Za-z.]")
REGISTRY = re.compile(r"https?://[^\s\")]*(?:/simple\b|/pool/|registry)|index[-]url", re.IGNORECASE)
EXAMPLES = {"suites/mine.toml", "suites/SUITE.claims.toml"}  # files that a reader is to write
CATCH_ALL = re.compile(r"(?:^|/)(?:utils?|helpers?|common|misc)(?:\.py$|/)")

PRIVATE = re.compile(
    r"(?<![A-Za-z])(nurser(?:y|ies)|lifelines?|soundings?|rungs?|ladders?|doubts?|doubted|purses?|houses?|rooms?|"
    r"trails?|standings?|numerals|upkeep|told)(?![A-Za-z])",
    re.IGNORECASE,
)
KEPT_KEYS = ('"sanity_ladder"', '"doubts"', "`doubts`")  # a key of committed records, a column of committed tables
NO_OPENING = set(
    "about above across after against along among and around as at before behind below beside besides between beyond "
    "but by despite during for from how if in inside into like near of off on onto or over per since so than that "
    "through to toward towards under until up upon via what when where whether which while who whom whose why with "
    "within without".split()
)
SMALL = 40  # lines up to which a module needs no test file of its own
TESTED_BY = {  # modules without a test file of their name
    "eavit/adaptation/task.py": "eavit/adaptation/test_adapt.py",
    "eavit/commands/adapt_command.py": "eavit/test_cli.py",
    "eavit/commands/arguments.py": "eavit/test_cli.py",
    "eavit/commands/deploy_commands.py": "eavit/test_cli.py",
    "eavit/commands/push_command.py": "eavit/deploy/test_hub.py",
    "eavit/commands/program.py": "eavit/test_cli.py",
    "eavit/commands/shown.py": "eavit/test_cli.py",
    "eavit/deploy/plots.py": "eavit/test_cli.py",
    "eavit/deploy/timm_entry.py": "eavit/deploy/test_export.py",
    "eavit/deploy/files.py": "eavit/deploy/test_artifact.py",
    "eavit/methods/answers.py": "eavit/methods/test_conformance.py",
    "eavit/methods/fitting.py": "eavit/methods/test_conformance.py",
    "eavit/training/pretrain.py": "harness/test_pretrain.py",
    "harness/commands/check_command.py": "harness/commands/test_check_plugin.py",
    "harness/commands/maintain.py": "harness/test_cli.py",
    "harness/commands/options.py": "harness/test_cli.py",
    "harness/commands/plan.py": "harness/test_cli.py",
    "harness/commands/report.py": "harness/test_cli.py",
    "harness/commands/run.py": "harness/test_cli.py",
    "harness/commands/why.py": "harness/commands/test_why_cell.py",
    "harness/data/locations.py": "harness/data/test_sources.py",
    "harness/jobs/forked_worker.py": "harness/jobs/test_fork_server.py",
    "harness/jobs/preload.py": "harness/jobs/test_fork_server.py",
    "harness/jobs/ray_connection.py": "harness/sweep/test_ray_cluster.py",
    "harness/protocol.py": "harness/evaluation/test_execute.py",
    "harness/reports/appearance.py": "harness/reports/page/test_page.py",
    "harness/reports/document/blocks.py": "harness/reports/document/test_markdown.py",
    "harness/reports/figures/axes.py": "harness/reports/figures/test_pareto.py",
    "harness/reports/page/charts.py": "harness/reports/page/test_page.py",
    "harness/reports/page/page_data.py": "harness/reports/page/test_page.py",
    "harness/reports/page/provenance.py": "harness/reports/page/test_page.py",
    "harness/reports/page/sections.py": "harness/reports/page/test_page.py",
    "harness/reports/paired_differences.py": "harness/reports/tables/test_differences.py",
    "harness/suite_checks.py": "harness/test_suite.py",
}

TWINS = set("Adapted Ledger Schedule Split Task".split())  # the protocol of the bench and what eavit has for it
COMMANDS = "harness/commands/"  # a verb of the command line is called as the function that does the work


@cache
def files() -> tuple[Path, ...]:
    """What is or would be committed, relative to the root."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True
    )
    if listed.returncode:  # an unpacked archive has no git
        hidden = {".tox", ".git", ".venv", "runs", "build", "dist"}
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return tuple(path for path in found if not hidden & set(path.parts) and "cache" not in str(path))
    names = listed.stdout.decode().split("\0")
    return tuple(Path(name) for name in names if name and (ROOT / name).is_file())


def texts() -> list[tuple[Path, str]]:
    return [(path, (ROOT / path).read_text(encoding="utf-8")) for path in files() if path.suffix in TEXT]


def sources() -> list[Path]:
    return [path for path in files() if path.parts[0] in PACKAGES and path.suffix == ".py"]


def hits(pattern: re.Pattern[str], skip: str = "") -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in texts()
        if not (skip and path.parts[0] == skip)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def asserts(code: str) -> list[int]:
    return [node.lineno for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)]


def loaded_by(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter holds after the code."""
    tail = f"\nimport sys; print('HEAVY', *sorted(set({HEAVY!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_the_walk_finds_both_packages():
    assert {path.parts[0] for path in sources()} == set(PACKAGES)
    assert Path("pyproject.toml") in files()


def test_no_machine_paths():
    assert hits(MACHINE_PATH, skip="tests") == []


def test_no_registry_hosts():
    assert hits(REGISTRY) == []


@pytest.mark.parametrize("line", ["see /work/x", '"/home/me/data"', "cd /tmp/a"])
def test_machine_paths_are_recognised(line: str):
    assert MACHINE_PATH.search(line)


def test_relative_paths_are_no_machine_paths():
    assert not MACHINE_PATH.search("results/work/x and a/home/b")


def test_registries_are_recognised():
    assert REGISTRY.search("https:" + "//mirror.example/simple")
    assert REGISTRY.search("--index" + "-url x")


def test_no_assert_in_the_source():
    assert asserts("def f():\n    assert True") == [2]
    assert [f"{path}:{line}" for path in sources() for line in asserts((ROOT / path).read_text(encoding="utf-8"))] == []


def test_no_catch_all_modules():
    assert [str(path) for path in files() if CATCH_ALL.search(path.as_posix())] == []


def test_modules_stay_small():
    lengths = {str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_suites_are_data():
    assert [str(path) for path in files() if path.parts[0] == "suites" and path.suffix != ".toml"] == []


def test_no_large_files():
    assert [str(path) for path in files() if (ROOT / path).stat().st_size > 2 * 2**20] == []


def test_pins_are_complete_and_hashed():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    blocks = re.findall(r"^(\S+?)==[^\n]*((?:\n    --hash=sha256:[0-9a-f]{64}[ \\]*)+)", pins, re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^\S", pins, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(need for extra in extras for need in extra)]
    names = {re.match(r"[A-Za-z0-9._-]+", need)[0].lower().replace("_", "-") for need in wanted}
    assert names - {name for name, _ in blocks} == {project["name"]}  # an extra names another one


def test_readme_opens_with_the_two_commands():
    opening = (ROOT / "README.md").read_text(encoding="utf-8")[:2000]
    commands = [line.strip() for line in opening.splitlines() if line.strip().startswith("python -m pip")]
    assert commands == [f"python -m pip install tox tox-uv && tox run -e {name}" for name in ("quick", "tests")]
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_readme_examples_are_whole(tmp_path: Path):
    blocks = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for code in (code for kind, code in blocks if kind == "python"):
        ast.parse(code)
    suites = [code for kind, code in blocks if kind == "toml"]
    assert suites
    for code in suites:
        (tmp_path / "mine.toml").write_text(code, encoding="utf-8")
        assert suite.load(tmp_path / "mine.toml").methods


def pages() -> dict[str, str]:
    """The pages that describe the present state: no history."""
    names = ["README.md", "CONTRIBUTING.md", *sorted(str(p) for p in files() if p.parent == Path("docs"))]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if name != "docs/log.md"}


def test_modules_are_mirrored_by_tests():
    """Each module above 40 lines has tests/<its folder>/test_<its name>.py, or another file that is named above."""
    long = [path for path in sources() if len((ROOT / path).read_text(encoding="utf-8").splitlines()) > SMALL]
    modules = {str(path) for path in long if path.name != "__init__.py"}
    mirrored = {name for name in modules if (ROOT / "tests" / name).with_name(f"test_{Path(name).name}").exists()}
    assert modules - mirrored - TESTED_BY.keys() == set()
    assert TESTED_BY.keys() & mirrored == set()
    assert TESTED_BY.keys() - {str(path) for path in sources()} == set()
    assert {name for name in TESTED_BY.values() if not (ROOT / "tests" / name).exists()} == set()


def test_no_two_tests_have_one_name():
    names = [
        node.name
        for path in files()
        if path.parts[0] == "tests" and path.name.startswith("test_") and path.suffix == ".py"
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert {name for name, count in Counter(names).items() if count > 1} == set()


def public_names() -> dict[str, list[str]]:
    """Files that define each public class or function at module level."""
    places: dict[str, list[str]] = {}
    for path in sources():
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path.as_posix())
    return places


def is_one_thing(name: str, places: Sequence[str]) -> bool:
    """Whether a name has one meaning: ``main`` starts programs; a twin or a verb stands in two files, one a side."""
    if name == "main" or len(set(places)) == 1:
        return True
    if name not in TWINS and not (name.islower() and all(path.startswith("harness/") for path in places)):
        return False
    sides = {path.startswith("eavit/" if name in TWINS else COMMANDS) for path in places}
    return len(places) == len(sides) == 2


def test_public_names_have_one_meaning():
    names = public_names()
    assert {name: places for name, places in names.items() if not is_one_thing(name, places)} == {}
    assert {name for name in TWINS if len(names.get(name, [])) < 2} == set()


def test_a_name_with_two_meanings_is_seen():
    assert not is_one_thing("read", ["harness/toml.py", "harness/suite.py"])
    assert not is_one_thing("Task", ["harness/protocol.py", "harness/suite.py"])
    assert not is_one_thing("run", ["harness/commands/run.py", "harness/commands/plan.py"])
    assert not is_one_thing("Bars", ["harness/commands/progress.py", "eavit/progress.py"])
    assert is_one_thing("run", ["harness/commands/run.py", "harness/sweep/sweep.py"])
    assert is_one_thing("Task", ["harness/protocol.py", "eavit/training/task.py"])


# --- language -------------------------------------------------------------------------------------------------------


def private_words(text: str) -> list[str]:
    for key in KEPT_KEYS:
        text = text.replace(key, "")
    lines = enumerate(text.splitlines(), 1)
    return [f"{number}: {line.strip()[:120]}" for number, line in lines if PRIVATE.search(line)]


def odd_openings(code: str) -> list[str]:
    """First lines of docstrings that open with a preposition or a question word."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, documented)]
    lines = [(node.body[0].lineno, text.splitlines()[0]) for node in nodes if (text := ast.get_docstring(node))]
    return [f"{number}: {line}" for number, line in lines if line.split()[0].strip(",:.").lower() in NO_OPENING]


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_open_with_a_noun_or_a_verb(package: str):
    code = {path: (ROOT / path).read_text(encoding="utf-8") for path in sources() if path.parts[0] == package}
    assert [f"{path}:{line}" for path, text in code.items() for line in odd_openings(text)] == []


def test_code_and_pages_use_no_private_words():
    shown = {".py", ".js", ".j2", ".css"}
    code = [path for path in files() if path.parts[0] in PACKAGES and path.suffix in shown]
    texts = {str(path): (ROOT / path).read_text(encoding="utf-8") for path in code}
    texts |= {page: text for page, text in pages().items() if page != "docs/faults.md"}  # it names tests
    assert [f"{name}:{line}" for name, text in texts.items() for line in private_words(text)] == []


def test_odd_words_are_recognised():
    assert odd_openings('"""Of a curriculum."""') == ["1: Of a curriculum."]
    assert odd_openings('def f():\n    """Whether it holds."""') == ["2: Whether it holds."]
    assert odd_openings('"""Curriculum of a stage."""') == []
    assert private_words("a rung\nof_the_told = 1\nfine") == ["1: a rung", "2: of_the_told = 1"]
    assert private_words('x["sanity_ladder"], bathroom') == []


@pytest.mark.parametrize("page", pages())
def test_files_that_a_page_names_exist(page: str):
    text = pages()[page]
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    sources = re.findall(r"`((?:eavit|harness|tests|suites|docs)/[\w/.-]+\.(?:py|toml|md))`", text)
    lost = [name for name in links if not (ROOT / page).parent.joinpath(name).exists()]
    assert lost + [name for name in sources if name not in EXAMPLES and not (ROOT / name).exists()] == []


def test_decisions_are_numbered_without_gaps():
    names = sorted(path.name for path in files() if path.parent == Path("docs/decisions"))
    assert [name[:4] for name in names] == [f"{number:04}" for number in range(len(names))]


def test_importing_all_verbs_is_light():
    imports = "for verb in app.VERBS.values(): __import__(f'harness.commands.{verb.module}')"
    code = f"from harness.commands import app\n{imports}"
    assert loaded_by(code) == set()


def test_asking_for_the_version_is_light():
    code = (
        "import sys, contextlib\nfrom harness.cli import main\nsys.argv = ['eavit-bench', '--version']\n"
        "with contextlib.suppress(SystemExit): main()"
    )
    assert loaded_by(code) == set()


def test_a_heavy_import_would_be_seen():
    assert "scipy" in loaded_by("import scipy")


def test_one_thread():
    import torch

    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"
