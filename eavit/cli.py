"""``eavit``: the console script. Nothing heavy is imported before an interrupt is expected."""

from __future__ import annotations

import sys
from importlib.util import find_spec

MISSING = (
    "typer is not installed; the command line needs its extra: python -m pip install 'eavit-bench[cli]', or in a "
    "clone: python -m pip install -e '.[cli]'"
)
INTERRUPTED = 130  # as shells count a program ended by Ctrl-C


def main() -> None:
    if find_spec("typer") is None:  # a base installation, which has the library alone
        raise SystemExit(f"eavit: {MISSING}")
    try:
        from eavit.commands import program

        program.main()
    except KeyboardInterrupt:
        print("eavit: interrupted; with --workdir the same command goes on where it was", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
