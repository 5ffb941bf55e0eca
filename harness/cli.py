"""``eavit-bench``: the console script. Nothing is imported before an interrupt is expected."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

BENCH = (
    "typer is not installed; the bench needs its extra: python -m pip install 'eavit-bench[bench]', or in a clone: "
    "python -m pip install -e '.[bench]'"
)
INTERRUPTED = 130  # as shells count a program ended by Ctrl-C


def main() -> None:
    sys.path.append(str(Path.cwd()))  # a suite may name a module that lies beside it
    if find_spec("typer") is None:  # a base installation, which has the library alone
        raise SystemExit(f"eavit-bench: {BENCH}")
    try:
        from harness.commands import app

        app.main()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
