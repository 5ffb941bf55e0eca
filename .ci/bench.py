"""Run a command in the environment that all tox environments share; create or update that environment first.

Torch with its libraries takes 5.5 GB, so all tox environments share one folder, `.tox/bench`. A lock allows several tox
runs at once. A stamp file holds a hash of everything that the environment depends on: when it matches, nothing is
touched, and a command that is already running there is not disturbed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "cluster,dev,docs,export,hub,pruning"  # everything that suites, tests and documentation need
PINS = ("pyproject.toml", "constraints.txt", "build-constraints.txt")
SCRIPTS = "Scripts" if os.name == "nt" else "bin"


def stamps() -> tuple[str, str]:
    """Identity of the interpreter, and a hash of the files that decide which packages are installed."""
    python = f"{sys.version} {sys.base_prefix} {ROOT}"
    pins = b"".join((ROOT / name).read_bytes() for name in PINS)
    return python, hashlib.sha256(pins).hexdigest()


def ensure(home: Path) -> None:
    """Bring the environment up to date; the stamp is written last, so that a failed installation is tried again."""
    stamp = home / "stamp.txt"
    python, pins = stamps()
    with FileLock(f"{home}.lock"):
        old = stamp.read_text(encoding="utf-8").split("\n") if stamp.exists() else []
        if old == [python, pins]:
            return
        stamp.unlink(missing_ok=True)
        print(f"installing into {home}: about 6 GB the first time", flush=True)
        uv = find_uv_bin()
        if old[:1] != [python]:
            subprocess.run([uv, "venv", "--quiet", "--clear", "--force", "--python", sys.executable, home], check=True)
        subprocess.run([uv, "pip", "install", "--python", home, "--editable", f"{ROOT}[{EXTRAS}]"], check=True)
        stamp.write_text(f"{python}\n{pins}", encoding="utf-8")


def run(home: Path, command: list[str]) -> int:
    """Run the command with the environment first on PATH; its exit code."""
    os.environ["PATH"] = os.pathsep.join([str(home / SCRIPTS), os.environ.get("PATH", os.defpath)])
    os.environ["VIRTUAL_ENV"] = str(home)
    if os.name != "nt":
        os.execvp(command[0], command)  # signals reach the command itself, not a parent that may outlive it
    return subprocess.run(command).returncode


def main() -> int:
    home, command = Path(sys.argv[1]), sys.argv[2:]
    try:
        ensure(home)
    except subprocess.CalledProcessError as error:
        print(
            f"the shared environment {home} could not be created: uv exited with code {error.returncode}",
            file=sys.stderr,
        )
        return 1
    return run(home, command)


if __name__ == "__main__":
    sys.exit(main())
