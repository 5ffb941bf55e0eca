"""``eavit-bench``: the console script. Nothing is imported before an interrupt is expected."""

from __future__ import annotations

import contextlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

BENCH = "typer is not installed; the bench needs its extra: python -m pip install 'eavit-bench[bench]'"
INTERRUPTED = 130  # as shells count a program ended by Ctrl-C


class LossyStream:
    """A stream that drops what cannot be written: a closed pipe or a full disk does not end a run of hours."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def main() -> None:
    sys.path.append(str(Path.cwd()))  # a suite may name a module that lies beside it
    standard = sys.stdout, sys.stderr
    if find_spec("typer") is None:  # a base installation, which has the library alone
        raise SystemExit(f"eavit-bench: {BENCH}")
    try:
        sys.stdout, sys.stderr = (stream and LossyStream(stream) for stream in standard)
        from harness.commands import app

        app.main()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        sys.stdout, sys.stderr = standard


if __name__ == "__main__":
    main()
