"""Downloads with a time limit: torchvision sets none, and a silent network must not hang a cell."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer


@contextmanager
def socket_timeout(seconds: float = DOWNLOAD_TIMEOUT) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
