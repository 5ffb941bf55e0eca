"""Output of commands: no control characters of strangers' names, and no traceback where it cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import typer


def complain(text: str) -> None:
    """Print to standard error, with control characters other than line ends escaped."""
    typer.echo("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text), err=True)


def warn(text: str) -> None:
    complain(f"warning: {text}")


def show_report(text: str, files: Iterable[Path]) -> None:
    """Print the overview, then the paths of all files."""
    typer.echo(text)
    for path in files:
        typer.echo(path)


class LossyStream:
    """A text stream that goes on where its disk is full or its reader gone; ``lost`` is the error from then on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.lost = stream, cast(OSError | None, None)
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="replace")  # characters that its encoding does not have

    def write(self, text: str) -> int:
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[..., object], *words: str) -> None:
        try:
            action(*words)
        except OSError as error:
            self.lost = error
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:  # noqa: PTH123
                os.dup2(nothing.fileno(), self._stream.fileno())  # what is still in its buffer has somewhere to go

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def protected() -> Iterator[None]:
    """Standard output and error as :class:`LossyStream`. At the end, SystemExit(1) where output was lost to a disk."""
    before = sys.stdout, sys.stderr
    streams = [None if stream is None else LossyStream(stream) for stream in before]
    sys.stdout, sys.stderr = cast(tuple[TextIO, TextIO], tuple(streams))
    try:
        yield
    finally:
        out = streams[0]
        if out is not None:
            out.flush()
            if out.lost is not None and out.lost.errno != errno.EPIPE:
                complain(f"standard output: {out.lost.strerror}: what follows was not written")
                sys.stdout, sys.stderr = before
                raise SystemExit(1) from None
        sys.stdout, sys.stderr = before
