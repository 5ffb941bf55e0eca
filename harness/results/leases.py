"""Leases: which runner is at work on which cell, for any runners on any machines that share one folder.

A lease is ``leases/<cell>.json`` with its owner and a counter that the owner raises at every beat. An observer takes it
over when the counter stood still for its patience, or at once when it can see that the owner's process is gone. No
wall clock is read: clocks of machines differ, counters do not. All changes happen under a lock of the kernel on
``leases/.lock``, which goes when its process goes; so of many who find a lease stale one takes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")
_CELL = re.compile(r"[0-9a-f]{1,64}")


class StoreError(ValueError):
    """A store that cannot be read or written as a whole, with what to do about it."""


class LeaseLost(StoreError):
    """Another runner took a cell over, because this one gave no sign of life for too long."""


class _Busy(StoreError):
    """The lock stayed another's: who holds it does not move."""


def is_cell(name: str) -> bool:
    return _CELL.fullmatch(name) is not None


def cell_name(cell: str) -> str:
    """``cell``, which is going to be part of a path; StoreError unless it is an id."""
    if not is_cell(cell):
        raise StoreError(f"{cell!r} is no cell id: an id is 1 to 64 hexadecimal digits, 0-9 and a-f")
    return cell


def unwritable(what: object, error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StoreError(f"{what}: {'the disk is full' if full else error.strerror}")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told from all that ever had its number. ``start``: in ticks since boot; None where /proc is missing.

    ``boot`` stands for the kernel's boot and for the namespace in which ``pid`` means something: containers of one
    machine share the first and not the second.
    """

    boot: str
    pid: int
    start: int | None

    @classmethod
    def here(cls) -> Process:
        return cls(_boot(), os.getpid(), _start(os.getpid()))

    def gone(self) -> bool:
        """Whether it is known to have ended; of a process of another machine nothing is known."""
        if self.start is None or self.boot != _boot():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # another user's
        start = _start(self.pid)
        return start is not None and start != self.start

    def alive(self) -> bool:
        """Whether it is known to be at work, on this machine."""
        return self.start is not None and self.boot == _boot() and not self.gone()

    def __str__(self) -> str:
        return f"{self.boot}.{self.pid}.{self.start or 0}"

    @classmethod
    def parse(cls, text: str) -> Process | None:
        found = re.fullmatch(r"([0-9a-f]{12}|none)\.(\d{1,9})\.(\d{1,20})", text)
        return cls(found[1], int(found[2]), int(found[3]) or None) if found else None


def _boot() -> str:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")
        return hashlib.sha256((boot + str((PROC / "self/ns/pid").readlink())).encode()).hexdigest()[:12]
    except OSError:
        return "none"


def _start(pid: int) -> int | None:
    """Field 22 of ``/proc/<pid>/stat``. A killed process that nobody has waited for yet is at 0: it ended."""
    try:
        state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return 0 if state in "ZX" else int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


@dataclass(frozen=True, slots=True)
class _Content:
    token: str
    process: Process
    beat: int

    def encode(self) -> bytes:
        # The counter has a fixed width: a beat writes over the same bytes, which a full disk does not refuse.
        rest = json.dumps({"token": self.token, **asdict(self.process)})
        return f'{{"beat": {self.beat:12d}, {rest[1:]}\n'.encode()

    @classmethod
    def decode(cls, text: bytes) -> _Content | None:
        """None: torn, or not a lease. Nobody is known to own it, and its counter stands still."""
        try:
            match json.loads(text):
                case {"token": str(token), "boot": str(boot), "pid": int(pid), "start": start, "beat": int(beat)} if (
                    0 < pid < 2**31
                ):
                    return cls(token, Process(boot, pid, start if isinstance(start, int) else None), beat)
        except ValueError:
            pass
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """The right to work on ``cell`` and to write it, until released or lost."""

    cell: str
    token: str
    _of: Leases

    def holds(self) -> bool:
        """Whether it is still ours: who was stopped for long may find that another went on in its place."""
        try:
            content = _Content.decode(_read(self._of.path(self.cell)) or b"")
        except OSError:
            return False
        return content is not None and content.token == self.token

    def release(self) -> None:
        self._of.release(self)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Nobody can take the cell over while this is entered; LeaseLost if somebody has. To be left at once."""
        with self._of.locked():
            if not self.holds():
                raise LeaseLost(
                    f"cell {self.cell}: another runner took it over while this one did not move; "
                    "what it finds counts, nothing was written"
                )
            yield


class _Awake:
    """Seconds in which this process could look: a pause of the whole process counts as no more than ``most``.

    Else a runner that was frozen together with all others would wake and take every one of them for dead.
    """

    def __init__(self, most: float) -> None:
        self._most, self._sum, self._last = most, 0.0, time.monotonic()
        self._guard = threading.Lock()

    def read(self) -> float:
        with self._guard:
            now = time.monotonic()
            self._sum += min(now - self._last, self._most)
            self._last = now
            return self._sum


class Leases:
    """The leases of one runner; a thread keeps them alive. ``beat`` and ``patience`` in seconds."""

    def __init__(self, folder: Path, *, beat: float = 2.0, patience: float = 30.0) -> None:
        if not 0 < beat < patience:
            raise ValueError(f"a beat of {beat} s and a patience of {patience} s: a beat must be shorter than patience")
        self.folder, self.beat, self.patience = folder, beat, patience
        self._held: dict[str, Lease] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}  # cell -> content, and since when it is the same
        self._clock = _Awake(2 * beat)
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def path(self, cell: str) -> Path:
        return self.folder / f"{cell_name(cell)}.json"

    def take(self, cell: str) -> Lease | None:
        """None: another runner holds it and is, as far as can be seen, alive. StoreError: no lease can be written.

        Who gets it looks into the store again: another may have done the cell before it gave the lease back.
        """
        path = self.path(cell)
        self._wake()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.locked():
                content = _read(path)
                if content is not None and not self._stale(cell, content):
                    return None
                lease = Lease(cell, secrets.token_hex(16), self)
                self._put(path, _Content(lease.token, Process.here(), 0).encode())
                self._seen.pop(cell, None)
        except _Busy:
            return None
        except OSError as error:
            raise unwritable(f"{self.folder}: no lease of cell {cell} can be written", error) from None
        with self._guard:
            self._held[cell] = lease
        return lease

    def others(self) -> dict[str, bool]:
        """Each cell under a lease that is not of this object, and whether that is known to be stale."""
        self._wake()
        found: dict[str, bool] = {}
        for path in sorted(self.folder.glob("*.json")):
            content = _read(path)
            if content is not None and path.stem not in self._held and is_cell(path.stem):
                found[path.stem] = self._stale(path.stem, content)
        return found

    def release(self, lease: Lease) -> None:
        with self._guard:
            if self._held.get(lease.cell) is lease:
                del self._held[lease.cell]
        # What cannot be removed gets no beat any more: it becomes stale.
        with contextlib.suppress(OSError, _Busy), self.locked():
            if lease.holds():
                self.path(lease.cell).unlink(missing_ok=True)

    def close(self) -> None:
        """Release all that is held."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for lease in list(self._held.values()):
            self.release(lease)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all threads and processes; for moments."""
        handle = self._lock()
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)  # by name: a fork between open and here holds the file open too
            os.close(handle)

    def _lock(self) -> int:
        path, until = self.folder / ".lock", time.monotonic() + self.patience
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_ino == path.stat().st_ino:  # else it was removed: others lock a new one
                    return handle
            except (BlockingIOError, FileNotFoundError):
                pass
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
            if time.monotonic() > until:
                raise _Busy(f"{path}: locked for more than {self.patience:g} s by a process that does not move")
            time.sleep(0.002)

    def _stale(self, cell: str, content: bytes) -> bool:
        owner = _Content.decode(content)
        if owner is not None and owner.process.gone():
            return True
        now = self._clock.read()
        before, since = self._seen.get(cell, (None, now))
        if before != content:
            self._seen[cell] = content, now
            return False
        return now - since >= self.patience

    def _put(self, path: Path, content: bytes) -> None:
        beside = path.with_suffix(".tmp")  # one writer at a time: under the lock
        try:
            beside.write_bytes(content)
            beside.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise

    def _wake(self) -> None:
        with self._guard:
            if self._thread is None or not self._thread.is_alive():
                self._stop.clear()
                self._thread = threading.Thread(target=self._live, name="leases", daemon=True)
                self._thread.start()

    def _live(self) -> None:
        while not self._stop.wait(self.beat):
            self._clock.read()
            with self._guard:
                held = list(self._held.values())
            with contextlib.suppress(OSError, _Busy):  # a beat that is missed: the next one may come through
                if held:
                    with self.locked():
                        self._raise(held)

    def _raise(self, held: list[Lease]) -> None:
        for lease in held:
            with contextlib.suppress(OSError):
                path = self.path(lease.cell)
                content = _Content.decode(_read(path) or b"")
                if content is not None and content.token == lease.token:
                    with path.open("r+b", buffering=0) as file:
                        file.write(_Content(content.token, content.process, content.beat + 1).encode())


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
