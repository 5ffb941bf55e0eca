"""Archives from strangers: nothing is ever written outside the folder, and nothing at all if one member is bad."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.data import archive, loading
from harness.data.archive import unpack_archive
from harness.data.locations import DataError
from harness.suite import DataSet, Input

FILES = {"train/cat/1.txt": b"one", "train/dog/2.txt": b"two" * 1000, "top.txt": b""}
KINDS = ("zip", "tar", "tar.gz", "tar.xz", "tar.bz2")


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return path


def make(path: Path, files: dict[str, bytes]) -> Path:
    return (make_zip if path.suffix == ".zip" else make_tar)(path, files)


def held(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def refused(path: Path, *words: str, **limits: int) -> None:
    """A DataError that names the archive and ``words``, and not one file or folder more than before."""
    root = path.parent
    before = sorted(root.rglob("*"))
    with pytest.raises(DataError) as caught:
        unpack_archive(path, root / "deep" / "out", **limits)
    assert all(word in str(caught.value) for word in (path.name, *words)), caught.value
    assert [place for place in sorted(root.rglob("*")) if place.name != "deep"] == before
    assert not (root / "deep").exists() or not list((root / "deep").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_archive_is_unpacked_whole(tmp_path: Path, kind: str) -> None:
    made = make(tmp_path / f"a.{kind}", FILES)
    assert unpack_archive(made, tmp_path / "out") == tmp_path / "out"
    assert held(tmp_path / "out") == FILES
    assert sorted(tmp_path.iterdir()) == [made, tmp_path / "out"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../evil.txt", "(..)"),
        ("train/../../evil.txt", "(..)"),
        ("train\\..\\..\\evil.txt", "(..)"),
        ("..", "(..)"),
        ("/tmp/evil.txt", "absolute"),
        ("\\\\server\\evil.txt", "absolute"),
        ("C:\\evil.txt", "absolute"),
        ("c:evil.txt", "absolute"),
        ("train/" + "x" * 256, "255"),
        ("train/" + "ø" * 128, "255"),
    ],
)
def test_names_that_lead_out_are_refused_before_anything_is_written(
    tmp_path: Path, kind: str, name: str, said: str
) -> None:
    refused(make(tmp_path / f"a.{kind}", {"good.txt": b"x", name: b"evil", "later.txt": b""}), repr(name), said)


def test_a_zero_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    made = make_zip(tmp_path / "a.zip", {"train/aXb.txt": b"x"})
    made.write_bytes(made.read_bytes().replace(b"aXb", b"a\0b"))
    refused(made, "zero byte")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as out:
        info = tarfile.TarInfo("plain")
        info.pax_headers = {"path": "train/a\0b.txt"}
        out.addfile(info, io.BytesIO())
    refused(tmp_path / "a.tar", "zero byte")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../out.txt", "good.txt"])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as made:
        made.addfile(tarfile.TarInfo("good.txt"))
        info = tarfile.TarInfo("train/odd")
        info.type, info.linkname = kind, target
        made.addfile(info)
    refused(tmp_path / "a.tar.gz", "'train/odd'", "link")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        info = zipfile.ZipInfo("train/odd")
        info.external_attr = (kind | 0o777) << 16
        made.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", "'train/odd'", "link")


def test_sizes_are_bounded(tmp_path: Path) -> None:
    for kind in KINDS:
        refused(make(tmp_path / f"a.{kind}", FILES), "'train/dog/2.txt'", "3,003 bytes", limit=3000)


@pytest.mark.parametrize("kind", ["zip", "tar.xz"])
def test_bombs_are_refused_by_their_ratio(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED", 100_000)
    refused(make(tmp_path / f"a.{kind}", {"small": b"1", "bomb": bytes(3_000_000)}), "'bomb'", "3,000,001 bytes")


def test_the_number_of_members_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    refused(make(tmp_path / "a.tar", FILES), "3 files")


def test_a_zip_that_promises_less_than_it_holds_is_refused(tmp_path: Path) -> None:
    made = make_zip(tmp_path / "a.zip", {"x": b"y" * 5000})
    made.write_bytes(made.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    refused(made)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_cut_archives_are_named(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).bytes(50_000)
    made = make(tmp_path / f"a.{kind}", {"a": noise, "b": noise[::-1]})
    made.write_bytes(made.read_bytes()[: int(share * made.stat().st_size)])
    refused(made)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_flipped_bits_are_found(tmp_path: Path, kind: str) -> None:
    made = make(tmp_path / f"a.{kind}", {"a": np.random.default_rng(0).bytes(50_000)})
    raw = bytearray(made.read_bytes())
    raw[25_000] ^= 1
    made.write_bytes(raw)
    refused(made)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_what_is_no_archive_is_named(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a.bin").write_bytes(pack(b"hello, I am no archive"))
    refused(tmp_path / "a.bin", "no supported archive")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    made = make_zip(tmp_path / "a.zip", {"x": b"y"})
    raw = bytearray(made.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    made.write_bytes(raw)
    refused(made, "encrypted")


def test_two_members_of_one_name_are_refused_and_case_may_differ(tmp_path: Path) -> None:
    made = make_zip(tmp_path / "a.zip", {"x/y": b"1", "x/z": b"2"})
    made.write_bytes(made.read_bytes().replace(b"x/z", b"x/y"))
    refused(tmp_path / "a.zip", "'x/y'", "occurs twice")
    refused(make_tar(tmp_path / "b.tar", {"x": b"1", "x/y": b"2"}), "'x/y'", "both a file and a folder")
    made = make_tar(tmp_path / "c.tar", {"a": b"1", "A": b"2", "./b/./c": b"3"})
    assert held(unpack_archive(made, tmp_path / "c")) == {"a": b"1", "A": b"2", "b/c": b"3"}


def test_modes_and_owners_of_the_archive_are_not_taken(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        info = tarfile.TarInfo("x")
        info.mode, info.uid = 0o6777, 12345
        made.addfile(info)
    mode = (unpack_archive(tmp_path / "a.tar", tmp_path / "out") / "x").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR | stat.S_IWOTH)


def test_whoever_comes_second_finds_what_the_first_made(tmp_path: Path) -> None:
    made = make(tmp_path / "a.zip", FILES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "first").write_text("x")
    unpack_archive(made, tmp_path / "out")
    assert set(held(tmp_path / "out")) == {"first"}
    assert sorted(tmp_path.iterdir()) == [made, tmp_path / "out"]


parts = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=30)


@given(st.lists(parts, min_size=1, max_size=3), st.sampled_from(["zip", "tar"]))
def test_any_name_is_unpacked_as_it_is_or_refused(
    tmp_path_factory: pytest.TempPathFactory, of: list[str], kind: str
) -> None:
    root = tmp_path_factory.mktemp("any")
    name = "/".join(of)
    made = make(root / f"a.{kind}", {name: b"x"})
    try:
        found = held(unpack_archive(made, root / "deep" / "out"))
    except DataError:
        found = {}
    else:
        assert found in ({"/".join(part for part in of if part != "."): b"x"}, {})  # all dots: the folder itself
    assert {place.name for place in root.iterdir()} <= {made.name, "deep"}
    assert len([file for file in root.rglob("*") if file.is_file()]) == 1 + len(found)


# --- names of classes and files, from an archive or a folder, on to the splits ----------------------------------------

ODD = ("a cat", "ein Hund ∕ 狗", "c:\\d", "-rf *", "é́", "x" * 200, "🐈" * 60, "'\"$(touch evil)`", "new\nline")


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_odd_names_of_classes_and_files_make_the_round_trip(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path / "root"))
    odd = [name for name in ODD if kind == "folder" or not name.startswith("c:")]
    rng = np.random.default_rng(0)
    files = {}
    for name in odd:
        for i in range(4):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(buffer, "png")
            files[f"train/{name}/{name[:240]}{i}.png"] = buffer.getvalue()
    if kind == "folder":
        for name, content in files.items():
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / name).write_bytes(content)
    path = tmp_path / "set" if kind == "folder" else make(tmp_path / f"set.{kind}", files)
    loaded = loading.load_dataset(DataSet(name="ø / " * 70, source="folder", path=str(path)), Input(size=8, channels=1))
    assert loaded.classes == tuple(sorted(unicodedata.normalize("NFC", name) for name in odd))
    assert sum(loaded.sizes.values()) == 4 * len(odd)
    assert not list(tmp_path.rglob("evil"))


# --- archives of other systems --------------------------------------------------------------------------------


def pictures(classes: tuple[str, ...] = ("cat", "dog")) -> dict[str, bytes]:
    rng, files = np.random.default_rng(0), {}
    for name in classes:
        for i in range(5):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(buffer, "png")
            files[f"train/{name}/{i}.png"] = buffer.getvalue()
    return files


def loaded(path: Path) -> loading.LoadedDataset:
    return loading.load_dataset(DataSet(name="x", source="folder", path=str(path)), Input(size=8, channels=1))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EAVIT_DATA", str(tmp_path / "root"))
    return tmp_path


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_of_macos(place: Path, kind: str) -> None:
    """One folder, a shadow of it, and decomposed names that no flag calls UTF-8."""
    files = {f"photos/{name}": content for name, content in pictures(("cafe\u0301", "dog")).items()}
    files |= {f"__MACOSX/{name.replace('/train/', '/train/._')}": b"Mac OS X" for name in files}
    files |= {"__MACOSX/._photos": b"Mac OS X", "photos/.DS_Store": b"x", "photos/train/.DS_Store": b"x"}
    made = make(place / f"photos.{kind}", files)
    if kind == "zip":
        made.write_bytes(without_utf8_flag(made.read_bytes()))
    assert loaded(made).classes == ("caf\u00e9", "dog")


def without_utf8_flag(content: bytes) -> bytes:
    raw = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(signature)
        while at >= 0:
            raw[at + offset + 1] &= ~0x08
            at = raw.find(signature, at + 4)
    return bytes(raw)


def test_an_archive_of_windows(place: Path) -> None:
    """Backslashes as old .NET writes them, a code page of DOS, and files of the Explorer."""
    with zipfile.ZipFile(place / "photos.zip", "w") as made:
        for name, content in {**pictures(("caf\u00e9", "dog")), "train/dog/Thumbs.db": b"x"}.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = f"photos\\{name}".replace("/", "\\"), 0
            made.writestr(info, content)
    made_of = (place / "photos.zip").read_bytes().replace("caf\u00e9".encode(), b"caf\x82\x82")
    (place / "photos.zip").write_bytes(without_utf8_flag(made_of))
    assert loaded(place / "photos.zip").classes == ("caf\u00e9\u00e9", "dog")


def test_a_backslash_in_a_name_of_another_system_stays(tmp_path: Path) -> None:
    made = make_zip(tmp_path / "a.zip", {"train\\x": b"1"})
    assert set(held(unpack_archive(made, tmp_path / "out"))) == {"train\\x"}


def test_messages_name_the_archive_and_not_where_it_was_unpacked(place: Path) -> None:
    files = {f"photos/{name}": content for name, content in pictures().items()}
    made = make(place / "photos.zip", {**files, "photos/train/dog/3.png": b"no image"})
    with pytest.raises(DataError, match=rf"{place}/photos\.zip/photos/train/dog/3\.png: cannot be decoded") as caught:
        loaded(made)
    assert "unpacked" not in str(caught.value)
    made = make(place / "second.zip", {**files, "photos/tset/x/1.png": b"x"})
    with pytest.raises(DataError, match=rf"{place}/second\.zip/photos/tset: a folder beside `train`.*nearest: test"):
        loaded(made)


def test_an_archive_with_an_unprintable_name(place: Path) -> None:
    (place / "a\x1b[2J.zip").write_bytes(b"no archive at all")
    with pytest.raises(DataError, match=r"x1b\[2J\.zip': no supported archive") as caught:
        loaded(place / "a\x1b[2J.zip")
    assert str(caught.value).isprintable()
