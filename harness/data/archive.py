"""Archives from strangers: looked through before anything is written, unpacked beside, renamed when whole."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from harness.data.locations import DataError

GIB = 1024**3
LIMIT = 50 * GIB  # bytes of all members together
MEMBERS = 5_000_000  # an empty file costs nothing in an archive and an inode on the disk
SWELL, FREE = 200, GIB  # an archive above FREE bytes may grow by this factor: images hardly shrink, bombs do
NAME_BYTES = 255  # of one part of a path, on all common file systems
DRIVE = re.compile(r"[A-Za-z]:")
BROKEN = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, NotImplementedError, ValueError)

Bring = Callable[[], IO[bytes] | None]


@dataclass(frozen=True, slots=True)
class Member:
    """``name`` as written in the archive; ``fault``: why such a thing is not unpacked."""

    name: str
    size: int
    folder: bool
    fault: str
    bring: Bring


def unpack(archive: Path, folder: Path, limit: int = LIMIT) -> Path:
    """The members of a zip or tar file as ``folder``, which must not be there yet: whole or not at all.

    DataError, with archive and member, for whatever could write elsewhere or fill the disk.
    """
    with _members(archive) as members:
        _look_through(archive, members(), limit)
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}.", suffix=".tmp", dir=folder.parent))
        try:
            _write(archive, members(), beside)
            _rename(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def _rename(beside: Path, folder: Path) -> None:
    beside.chmod(0o755)  # mkdtemp lets nobody else in
    try:
        beside.rename(folder)
    except OSError:
        if not folder.is_dir():  # else somebody else unpacked the same in the meantime
            raise


@contextmanager
def _members(archive: Path) -> Iterator[Callable[[], Iterator[Member]]]:
    """A function that goes through the members from the start, each time it is called."""
    try:
        if tarfile.is_tarfile(archive):  # first: a tar file that ends with a zip file looks like one
            yield lambda: _of_tar(archive)
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                yield lambda: _of_zip(opened)
        else:
            raise DataError(f"{archive} is no archive that is known: zip, tar, tar.gz, tar.xz or tar.bz2.")
    except DataError:
        raise
    except BROKEN as error:
        raise DataError(f"{archive} is damaged ({type(error).__name__}: {error}): fetch it again.") from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the archive: gzip and bz2 give no number
        raise DataError(f"{archive} cannot be unpacked ({error}).") from error


def _of_zip(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        fault = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is a link or a device"
        fault = fault or ("is encrypted" if info.flag_bits & 1 else "")
        # zipfile cuts a name at a zero byte; what was written there is in orig_filename
        name = info.orig_filename if "\0" in info.orig_filename else info.filename
        yield Member(name, info.file_size, info.is_dir(), fault, partial(opened.open, info))


def _of_tar(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            plain = info.isdir() or (info.isreg() and not info.issparse() and info.size >= 0)
            fault = "" if plain else "is a link, a device or sparse"
            yield Member(info.name, info.size, info.isdir(), fault, partial(opened.extractfile, info))
            opened.members = []  # type: ignore[attr-defined]  # a list of millions is not needed, and would grow
        if opened.fileobj is not None:
            for _ in iter(partial(opened.fileobj.read, 1 << 20), b""):
                pass  # the checksum of gzip, bzip2 and xz comes after the last member, and is looked at by reading it


def _look_through(archive: Path, members: Iterator[Member], limit: int) -> None:
    allowed = min(limit, max(FREE, SWELL * archive.stat().st_size))
    total, seen = 0, set[str]()
    for number, member in enumerate(members):
        fault = member.fault or _name_fault(member.name)
        if fault:
            raise DataError(f"{archive}: member {member.name!r} {fault}; nothing was unpacked.")
        place = "/".join(_parts(member.name))
        if place in seen and not member.folder:
            raise DataError(f"{archive}: member {member.name!r} is there twice; nothing was unpacked.")
        seen.add(place)
        total += member.size
        if total > allowed or number >= MEMBERS:
            raise DataError(
                f"{archive}: with member {member.name!r} it would take {total:,} bytes in {number + 1:,} files, more "
                f"than the {allowed:,} bytes or {MEMBERS:,} files that an archive of its size may take; nothing was "
                "unpacked."
            )


def _name_fault(name: str) -> str:
    """Why a name could lead out of the folder on some system, or cannot be a file on any."""
    pieces = re.split(r"[/\\]", name)
    if "\0" in name:
        return "has a zero byte in its name"
    if name[:1] in ("/", "\\") or DRIVE.match(name):
        return "has an absolute name"
    if ".." in pieces:
        return "has a name that leads out of the folder (..)"
    if any(len(os.fsencode(part)) > NAME_BYTES for part in _parts(name)):
        return f"has a name of more than {NAME_BYTES} bytes, which file systems do not take"
    return ""


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _write(archive: Path, members: Iterator[Member], folder: Path) -> None:
    """Both readers stop at the size that a member was looked through with, and find out when there is less."""
    for member in members:
        target = folder.joinpath(*_parts(member.name))
        if member.folder or target == folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                _copy(archive, member, out)
        except (FileExistsError, NotADirectoryError) as error:
            raise DataError(f"{archive}: member {member.name!r} is both a file and a folder.") from error


def _copy(archive: Path, member: Member, out: IO[bytes]) -> None:
    source = member.bring()
    if source is None:
        raise DataError(f"{archive}: member {member.name!r} holds nothing that can be read.")
    with source:
        shutil.copyfileobj(source, out, 1 << 20)
