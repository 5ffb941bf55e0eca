"""Laws of the repository itself, cheap enough for every run."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from harness import suite

ROOT = Path(__file__).resolve().parent.parent
HOUSES = ("eavit", "harness")
TEXT = {".py", ".toml", ".ini", ".md", ".txt", ".sh", ".json", ".csv", ".cfg", ".yml", ".yaml", ".svg", ".html", ""}
HEAVY = ("torch", "torchvision", "timm", "accelerate", "pandas", "scipy", "sklearn", "matplotlib", "pymoo")
MACHINE_PATH = re.compile(r"(?:^|[^A-Za-z0-9._-])/(?:work|tmp|root|home|Users)/[A-Za-z.]")
REGISTRY = re.compile(r"https?://[^\s\")]*(?:/simple\b|/pool/|registry)|index[-]url", re.IGNORECASE)
EXAMPLES = {"suites/mine.toml", "suites/SUITE.claims.toml"}  # files that a reader is to write
DRAWER = re.compile(r"(?:^|/)(?:utils?|helpers?|common|misc)(?:\.py$|/)")


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
    return [path for path in files() if path.parts[0] in HOUSES and path.suffix == ".py"]


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


def test_the_walk_finds_the_houses():
    assert {path.parts[0] for path in sources()} == set(HOUSES)
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


def test_rooms_not_drawers():
    assert [str(path) for path in files() if DRAWER.search(path.as_posix())] == []


def test_rooms_stay_small():
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


def test_importing_the_command_line_is_light():
    assert loaded_by("import harness.commands.app") == set()


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
