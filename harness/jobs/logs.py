"""Logs of jobs: limited in size while they are written, and without names of the machine when they are shared."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
from pathlib import Path
from typing import IO

CAP = 64 * 1024  # bytes of a log that are kept, from its end
_PATH = re.compile(r"(?<![\w:/.…~])/(?:[^\s/:'\"()\[\]<>,]+/)+[^\s/:'\"()\[\]<>,]*")


class CappedLog:
    """Copies a stream into a file that never grows past four times the cap. A job may print a gigabyte."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream, self._path = stream, path
        self._tail = bytearray()
        self._thread = threading.Thread(target=self._copy, name=f"log of {path.parent.name}", daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        file = None
        with contextlib.suppress(OSError):
            file = self._path.open("wb", buffering=0)
        while piece := self._stream.read1(CAP):  # type: ignore[attr-defined]  # a pipe's reader has it
            self._tail = (self._tail + piece)[-CAP:]
            with contextlib.suppress(OSError):  # a full disk costs the file; a pipe not read would stop the process
                if file is not None and file.tell() + len(piece) > 4 * CAP:
                    file.seek(0)
                    file.truncate()
                    file.write(self._tail)
                elif file is not None:
                    file.write(piece)
        if file is not None:
            file.close()

    def close(self, seconds: float) -> str:
        """Wait for the end of the stream, no longer than ``seconds``; the tail as text."""
        self._thread.join(seconds)
        if not self._thread.is_alive():
            self._stream.close()
        return bytes(self._tail).decode("utf-8", "replace")


def scrubbed(text: str) -> str:
    """``text`` without absolute paths and the machine's name: files of the project and of packages stay readable."""
    root = str(Path(__file__).resolve().parents[2])
    text = text.replace(root + "/", "")
    text = _PATH.sub(lambda found: _short(found.group()), text)
    host = socket.gethostname()
    return text.replace(host, "<host>") if len(host) > 3 and host != "localhost" else text


def _short(path: str) -> str:
    _, packages, inner = path.partition("/site-packages/")
    if packages:
        return inner
    if path.startswith((sys.base_prefix, sys.prefix)) and "/python3" in path:
        return re.sub(r".*/python3[.\d]*/", "", path)
    return "…/" + path.rstrip("/").rpartition("/")[2] + "/" * path.endswith("/")
