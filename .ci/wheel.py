"""Build source archive and wheel, install the wheel into a clean environment, and use it from another folder.

`uv build` makes the wheel from the source archive, so both are complete if the wheel works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
DATA = """
from importlib.resources import files
import sys, eavit, harness
from eavit.weights import pico_letters
assert eavit.__file__.startswith(sys.prefix), eavit.__file__
for package in (eavit, harness):
    assert (files(package) / "py.typed").is_file(), package
assert pico_letters(3).num_classes == 3
print("imported from", eavit.__file__)
"""
COMMANDS = (
    *(["eavit", "--version"], ["eavit-bench", "--version"]),
    ["python", str(ROOT / "examples" / "draw_signs.py"), "photos/train"],
    [
        "eavit",
        "adapt",
        "photos",
        "--backbone",
        "pico",
        "--epochs",
        "2",
        "--method",
        "hydravit",
        "--out",
        "signs.elastic",
    ],
    ["eavit", "choose", "signs.elastic", "--budget", "0.5"],
    ["eavit", "export", "signs.elastic", "--budget", "0.5", "--out", "half"],
    ["eavit", "verify", "half", "--data", "photos"],
    *(["eavit-bench", "init", "dataset", "squares"], ["eavit-bench", "check", "squares:squares"]),
    *(["eavit-bench", "init", "suite", "tiny"], ["eavit-bench", "check", "tiny.toml"]),
    ["eavit-bench", "run", "tiny.toml", "--seed", "0", "--method", "hydravit", "--workers", "1"],
)


def main() -> int:
    folder, uv = Path(sys.argv[1]), find_uv_bin()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "elsewhere").mkdir(parents=True)
    env = folder / "clean"
    run([uv, "build", "--quiet", "--out-dir", str(folder / "dist"), str(ROOT)], ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    run([uv, "venv", "--quiet", "--python", sys.executable, str(env)], ROOT)
    run([uv, "pip", "install", "--quiet", "--python", str(env), f"{wheel}[bench]"], ROOT)
    os.environ["PATH"] = os.pathsep.join([str(env / SCRIPTS), os.environ.get("PATH", os.defpath)])
    os.environ.pop("PYTHONPATH", None)
    for command in (["python", "-c", DATA], *COMMANDS):
        run(command, folder / "elsewhere")
    print("the wheel works from a clean environment")
    return 0


def run(command: list[str], folder: Path) -> None:
    """Run a command in a folder; SystemExit with its words if it fails."""
    print("+", *(word if "\n" not in word else "..." for word in command), flush=True)
    code = subprocess.run(command, cwd=folder).returncode
    if code:
        raise SystemExit(f"exit code {code}: {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
