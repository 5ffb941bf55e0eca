"""Safe unpacking of zip and tar files: every member is checked first, then all are unpacked, or none."""

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
from harness.messages import quoted

GIB = 1024**3
MAX_BYTES = 50 * GIB  # of all members together
MAX_MEMBERS = 5_000_000  # an empty file costs nothing in an archive and an inode on the disk
MAX_RATIO, ALWAYS_ALLOWED = 200, GIB  # unpacked to packed bytes, above ALWAYS_ALLOWED: images hardly compress, bombs do
NAME_BYTES = 255  # of one part of a path, on all common file systems
WINDOWS = 0  # system that made a member of a zip file
DRIVE = re.compile(r"[A-Za-z]:")
DECODING_ERRORS = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError)


@dataclass(frozen=True, slots=True)
class Member:
    """``name`` as written in the archive; ``fault``: why a member of this kind is not unpacked."""

    name: str
    size: int
    is_folder: bool
    fault: str
    open: Callable[[], IO[bytes] | None]


def unpack_archive(archive: Path, folder: Path, limit: int = MAX_BYTES) -> Path:
    """Unpack a zip or tar file as ``folder``, completely or not at all; a ``folder`` that exists is kept.

    DataError, with archive and member, for every member that could write elsewhere or fill the disk.
    """
    with _members(archive) as members:
        _check(members(), min(limit, max(ALWAYS_ALLOWED, MAX_RATIO * archive.stat().st_size)))
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}.", suffix=".tmp", dir=folder.parent))
        try:
            _write(members(), temporary)
            _rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _rename(temporary: Path, folder: Path) -> None:
    temporary.chmod(0o755)  # mkdtemp allows the owner alone
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # another process unpacked the same archive
            raise


@contextmanager
def _members(archive: Path) -> Iterator[Callable[[], Iterator[Member]]]:
    """A function that iterates over the members from the start each time it is called."""
    try:
        if tarfile.is_tarfile(archive):  # first: a tar file that ends with a zip file looks like one
            yield lambda: _tar_members(archive)
        elif zipfile.is_zipfile(archive):
            with _open_zip(archive) as opened:
                yield lambda: _zip_members(opened)
        else:
            raise DataError("no supported archive; allowed: zip, tar, tar.gz, tar.xz, tar.bz2.")
    except DataError as error:
        raise DataError(f"{quoted(archive)}: {error}") from error
    except DECODING_ERRORS as error:
        raise DataError(f"{quoted(archive)}: damaged ({type(error).__name__}: {error}); download it again.") from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk: errors of gzip and bz2 have no number
        raise DataError(f"{quoted(archive)}: cannot be unpacked ({error}).") from error


def _open_zip(archive: Path) -> zipfile.ZipFile:
    """Names without an encoding are UTF-8 if they can be, as macOS writes them, else those of old DOS."""
    try:
        return zipfile.ZipFile(archive, metadata_encoding="utf-8")
    except UnicodeDecodeError:
        return zipfile.ZipFile(archive)


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        fault = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is a link or a device"
        fault = fault or ("is encrypted" if info.flag_bits & 1 else "")
        # zipfile cuts a name at a zero byte; orig_filename is complete
        name = info.orig_filename if "\0" in info.orig_filename else info.filename
        if info.create_system == WINDOWS and "/" not in name:
            name = name.replace("\\", "/")  # old .NET writes the separator of Windows
        yield Member(name, info.file_size, name.endswith("/"), fault, partial(opened.open, info))


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            plain = info.isdir() or (info.isreg() and not info.issparse() and info.size >= 0)
            fault = "" if plain else "is a link, a device or sparse"
            yield Member(info.name, info.size, info.isdir(), fault, partial(opened.extractfile, info))
            opened.members = []  # type: ignore[attr-defined]  # else it grows with every member
        if opened.fileobj is not None:
            for _ in iter(partial(opened.fileobj.read, 1 << 20), b""):
                pass  # reading to the end verifies the checksum of gzip, bzip2 and xz


def _check(members: Iterator[Member], allowed: int) -> None:
    total, seen = 0, set[str]()
    for number, member in enumerate(members):
        fault = member.fault or _name_fault(member.name)
        if fault:
            raise DataError(f"member {member.name!r} {fault}; nothing was unpacked.")
        path = "/".join(_parts(member.name))
        if path in seen and not member.is_folder:
            raise DataError(f"member {member.name!r} occurs twice; nothing was unpacked.")
        seen.add(path)
        total += member.size
        if total > allowed or number >= MAX_MEMBERS:
            raise DataError(
                f"up to member {member.name!r} it takes {total:,} bytes in {number + 1:,} files, more "
                f"than the {allowed:,} bytes or {MAX_MEMBERS:,} files that an archive of its size may take; nothing "
                "was unpacked."
            )


def _name_fault(name: str) -> str:
    """Reason to refuse a name that leads out of the folder, or is no file name, on some system."""
    pieces = re.split(r"[/\\]", name)
    if "\0" in name:
        return "has a zero byte in its name"
    if name[:1] in ("/", "\\") or DRIVE.match(name):
        return "has an absolute name"
    if ".." in pieces:
        return "has a name that leads out of the folder (..)"
    if any(len(os.fsencode(part)) > NAME_BYTES for part in _parts(name)):
        return f"has a name of more than {NAME_BYTES} bytes, the limit of file systems"
    return ""


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _write(members: Iterator[Member], folder: Path) -> None:
    """Write all members; both readers stop at the declared size and raise if there is less."""
    for member in members:
        target = folder.joinpath(*_parts(member.name))
        if member.is_folder or target == folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                _copy(member, out)
        except (FileExistsError, NotADirectoryError) as error:
            raise DataError(f"member {member.name!r} is both a file and a folder.") from error


def _copy(member: Member, out: IO[bytes]) -> None:
    source = member.open()
    if source is None:
        raise DataError(f"member {member.name!r} cannot be read.")
    with source:
        shutil.copyfileobj(source, out, 1 << 20)
