"""Decoding by pixel values: every mode, suffix and orientation; damaged files, and files of other formats."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, ExifTags, Image, ImageOps, features

from harness.data.decoding import FORMATS, SUFFIXES, decode_image, square_pixels
from harness.data.images import content_hash
from harness.data.locations import DataError

LEFT, RIGHT = (200, 40, 90), (10, 120, 30)
WHITE = (255, 255, 255)


def decoded(path: Path) -> np.ndarray:
    return np.asarray(decode_image(path, path.name))


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        decoded(path)
    assert str(caught.value).startswith(f"{path.name}: cannot be decoded: ")
    assert all(word in str(caught.value) for word in words), caught.value


def halves(mode: str, left: Any, right: Any, colours: tuple[int, ...] = ()) -> Image.Image:
    image = Image.new(mode, (16, 8), left)
    image.paste(right, (8, 0, 16, 8))
    if colours:
        image.putpalette(colours)
    return image


def big_endian() -> Image.Image:
    row = np.array([40_000] * 8 + [257] * 8, dtype=">u2")
    return Image.frombytes("I;16B", (16, 8), row.tobytes() * 8)


# Name -> an image of that mode, and the colours that its halves show; no colours where decoding is refused.
PICTURES: dict[str, tuple[Callable[[], Image.Image], Any, Any]] = {
    "1": (lambda: halves("1", 1, 0), 255, 0),
    "L": (lambda: halves("L", 93, 12), 93, 12),
    "LA": (lambda: halves("LA", (93, 255), (12, 0)), 93, 255),
    "LA half": (lambda: halves("LA", (100, 51), (0, 255)), 224, 0),
    "P": (lambda: halves("P", 0, 1, (*LEFT, *RIGHT)), LEFT, RIGHT),
    "PA": (lambda: halves("PA", (0, 255), (1, 0), (*LEFT, *RIGHT)), LEFT, WHITE),
    "RGB": (lambda: halves("RGB", LEFT, RIGHT), LEFT, RIGHT),
    "RGBA": (lambda: halves("RGBA", (*LEFT, 255), (*RIGHT, 0)), LEFT, WHITE),
    "RGBA half": (lambda: halves("RGBA", (*LEFT, 255), (55, 0, 255, 51)), LEFT, (215, 204, 255)),
    "RGBX": (lambda: halves("RGB", LEFT, RIGHT).convert("RGBX"), LEFT, RIGHT),
    "RGBa": (lambda: halves("RGBA", (*LEFT, 255), (*RIGHT, 0)).convert("RGBa"), LEFT, WHITE),
    "CMYK": (lambda: halves("RGB", LEFT, RIGHT).convert("CMYK"), LEFT, RIGHT),
    "YCbCr": (lambda: halves("YCbCr", (100, 128, 128), (255, 128, 128)), (100,) * 3, WHITE),
    "LAB": (lambda: halves("LAB", (0, 128, 128), (255, 128, 128)), (0, 0, 0), WHITE),
    "I;16": (lambda: halves("I;16", 40_000, 257), 156, 1),
    "I;16B": (big_endian, 156, 1),
    "I": (lambda: halves("I", 40_000, 257), 156, 1),
    "I refused": (lambda: halves("I", 40_000, 257), None, None),
    "F": (lambda: halves("F", 0.75, 0.25), None, None),
}
WRITABLE = {  # by Pillow, without a conversion of its own
    ".bmp": ("1", "L", "P", "RGB"),
    ".gif": ("1", "L", "P", "RGB", "RGBA"),
    ".jpg": ("1", "L", "RGB", "RGBX", "CMYK"),
    ".pgm": ("1", "L", "RGB", "I;16", "I", "F"),
    ".png": ("1", "L", "LA", "LA half", "P", "RGB", "RGBA", "RGBA half", "I;16"),
    ".tif": tuple(sorted(PICTURES.keys() - {"I", "RGBa"})),
    ".webp": ("L", "LA", "LA half", "P", "PA", "RGB", "RGBA", "RGBA half", "RGBa"),
}
WRITABLE |= {".jpeg": WRITABLE[".jpg"], ".tiff": WRITABLE[".tif"], ".ppm": WRITABLE[".pgm"]}
EXACT = {".webp": {"lossless": True, "exact": True}, ".jpg": {"quality": 100}, ".jpeg": {"quality": 100}}


def test_every_suffix_and_every_mode_is_tested() -> None:
    assert set(WRITABLE) == SUFFIXES
    assert {name for names in WRITABLE.values() for name in names} == set(PICTURES)


@pytest.mark.parametrize(("suffix", "name"), [(suffix, name) for suffix in WRITABLE for name in WRITABLE[suffix]])
def test_pixels_keep_their_values(tmp_path: Path, suffix: str, name: str) -> None:
    make, left, right = PICTURES[name]
    path = tmp_path / f"x{suffix}"
    make().save(path, **EXACT.get(suffix, {}))
    if left is None:
        refused(path, "range")
        return
    pixels = decoded(path).astype(int)
    assert pixels.shape[:2] == (8, 16)
    for column, colour in ((4, left), (12, right)):
        assert np.abs(pixels[4, column] - np.array(colour)).max() <= 1, (column, pixels[4, column])


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_the_content_decides_the_format_and_not_the_suffix(tmp_path: Path, suffix: str) -> None:
    halves("RGB", LEFT, RIGHT).save(tmp_path / f"x{suffix}", "PNG")
    assert decoded(tmp_path / f"x{suffix}")[0, 0].tolist() == list(LEFT)


def test_the_content_hash_is_of_what_is_seen(tmp_path: Path) -> None:
    """Equal drawings on transparent and on white ground are one image; invisible colours do not count."""
    drawings = [halves("RGBA", (*LEFT, 255), (*hidden, 0)) for hidden in (RIGHT, (0, 0, 0))]
    drawings.append(halves("RGB", LEFT, WHITE))
    hashes = set()
    for i, drawing in enumerate(drawings):
        drawing.save(tmp_path / f"{i}.png")
        hashes.add(content_hash(decoded(tmp_path / f"{i}.png")))
    assert len(hashes) == 1


# --- PNG, TIFF, PNM and BMP as other programs write them --------------------------------------------------------------


def png(bits: int, colour: int, row: bytes, **chunks: bytes) -> bytes:
    """A PNG whose rows are all ``row``; ``chunks``: between header and pixels."""
    size = 16 * {0: 1, 2: 3, 4: 2, 6: 4}[colour] * bits // 8
    assert len(row) == size
    parts = {"IHDR": struct.pack(">IIBBBBB", 16, 8, bits, colour, 0, 0, 0), **chunks}
    parts |= {"IDAT": zlib.compress((b"\0" + row) * 8), "IEND": b""}
    named = [(len(content), name.encode() + content) for name, content in parts.items()]
    packed = [struct.pack(">I", size) + content + struct.pack(">I", zlib.crc32(content)) for size, content in named]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("bits", "row", "transparent", "left", "right"),
    [
        (1, b"\xff\x00", 1, 255, 0),
        (1, b"\xff\x00", 0, 255, 255),
        (2, b"\x55\x55\xff\xff", 1, 255, 255),
        (2, b"\x55\x55\x00\x00", 0, 85, 255),
        (4, b"\x33" * 4 + b"\x77" * 4, 3, 255, 119),
        (8, b"\x33" * 8 + b"\x77" * 8, 0x33, 255, 119),
        (16, b"\x33\x01" * 8 + b"\x33\x02" * 8, 0x3301, 255, 51),
    ],
)
def test_a_transparent_grey_has_the_scale_of_the_file(
    tmp_path: Path, bits: int, row: bytes, transparent: int, left: int, right: int
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(bits, 0, row, tRNS=struct.pack(">H", transparent)))
    assert decoded(path)[0, [4, 12]].tolist() == [left, right]


def test_a_transparent_colour_of_16_bits_is_refused(tmp_path: Path) -> None:
    row = struct.pack(">HHH", 256, 257, 258) * 16
    (tmp_path / "a.png").write_bytes(png(16, 2, row))
    assert decoded(tmp_path / "a.png")[0, 0].tolist() == [1, 1, 1]
    (tmp_path / "b.png").write_bytes(png(16, 2, row, tRNS=struct.pack(">HHH", 1, 2, 3)))
    refused(tmp_path / "b.png", "16-bit RGB with a transparent colour")


def test_16_bits_with_alpha(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(16, 4, struct.pack(">HHHH", 0x5D00, 0xFFFF, 0, 0) * 8))
    assert decoded(tmp_path / "x.png")[0, :2].tolist() == [[0x5D] * 3, [255] * 3]


def test_a_palette_with_several_levels_of_transparency(tmp_path: Path) -> None:
    image = halves("P", 0, 1, (*LEFT, 55, 0, 255))
    image.save(tmp_path / "x.png", transparency=bytes((0, 51)))
    assert decoded(tmp_path / "x.png")[0, [4, 12]].tolist() == [list(WHITE), [215, 204, 255]]


def tiff(bits: int, samples: bytes, photometric: int = 1, sample_format: int = 1, order: str = "<") -> bytes:
    """A grey TIFF of 2 x 1 pixels."""
    entries = {256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 1, 279: len(samples)}
    entries |= {339: sample_format}
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    ifd = b"".join(
        struct.pack(f"{order}HHI", tag, 3, 1) + struct.pack(f"{order}HH", value, 0) for tag, value in entries.items()
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(entries)) + ifd + bytes(4) + samples


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff(8, b"\x10\xf0"), [0x10, 0xF0]),
        (tiff(8, b"\x10\xf0", photometric=0), [0xEF, 0x0F]),
        (tiff(12, b"\xff\xf0\x10"), [255, 1]),
        (tiff(16, struct.pack("<HH", 65535, 256)), [255, 1]),
        (tiff(16, struct.pack("<HH", 65535, 256), photometric=0), [0, 254]),
        (tiff(16, struct.pack(">HH", 65535, 256), order=">"), [255, 1]),
        (tiff(8, b"\x10\xf0", sample_format=2), "signed"),
        (tiff(16, struct.pack("<hh", -5, 5), sample_format=2), "range"),
        (tiff(32, struct.pack("<ii", -5, 5), sample_format=2), "range"),
        (tiff(32, struct.pack("<II", 5, 2**32 - 1)), "range"),
        (tiff(32, struct.pack("<ff", 0.0, 1.0), sample_format=3), "range"),
    ],
)
def test_grey_tiffs_are_scaled_by_the_range_that_they_state(tmp_path: Path, content: bytes, expected: Any) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    if isinstance(expected, str):
        refused(path, expected)
    else:
        assert decoded(path).tolist() == [expected]


def test_premultiplied_grey(tmp_path: Path) -> None:
    content = io.BytesIO()
    halves("LA", (93, 255), (0, 0)).save(content, "TIFF")
    entry = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
    assert content.getvalue().count(entry) == 1
    (tmp_path / "x.tif").write_bytes(content.getvalue().replace(entry, struct.pack("<HHIHH", 338, 3, 1, 1, 0)))
    assert decoded(tmp_path / "x.tif")[0, [4, 12]].tolist() == [93, 255]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P2 2 1 15 0 15", [0, 255]),
        (b"P2 2 1 1023 512 1023", [128, 255]),
        (b"P2 2 1 65535 256 65535", [1, 255]),
        (b"P5 2 1 65535 " + struct.pack(">HH", 256, 65535), [1, 255]),
        (b"P5 2 1 1023 " + struct.pack(">HH", 512, 1023), [128, 255]),
        (b"P3 1 1 1023 1023 0 512", [[255, 0, 128]]),
        (b"P1 2 1 1 0", [0, 255]),
    ],
)
def test_pnm_is_scaled_by_its_largest_value(tmp_path: Path, content: bytes, expected: list[Any]) -> None:
    (tmp_path / "x.pgm").write_bytes(content)
    assert decoded(tmp_path / "x.pgm").tolist() == [expected]


def test_a_bmp_with_alpha(tmp_path: Path) -> None:
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0) + masks + bytes(52)
    content = bytes((90, 40, 200, 255, 30, 120, 10, 0))
    (tmp_path / "x.bmp").write_bytes(struct.pack("<2sIII", b"BM", 14 + 108 + 8, 0, 14 + 108) + info + content)
    assert decoded(tmp_path / "x.bmp").tolist() == [[list(LEFT), list(WHITE)]]


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".jpg", "MPO"), (".gif", "GIF"), (".png", "PNG"), (".webp", "WEBP"), (".tif", "TIFF")]
)
def test_the_first_of_several_frames_is_taken(tmp_path: Path, suffix: str, kind: str) -> None:
    others = [Image.new("RGB", (16, 8), colour) for colour in ((0, 0, 0), WHITE)]
    options = {"save_all": True, "append_images": others, **EXACT.get(suffix, {})}
    halves("RGB", LEFT, RIGHT).save(tmp_path / f"x{suffix}", kind, **options)
    with Image.open(tmp_path / f"x{suffix}") as image:
        assert image.n_frames == 3
    assert np.abs(decoded(tmp_path / f"x{suffix}")[4, 4].astype(int) - LEFT).max() <= 1


# --- orientation ----------------------------------------------------------------------------------------------------


def oriented(suffix: str, orientation: int) -> bytes:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "somebody"
    exif[ExifTags.Base.XResolution] = 72.0
    exif.get_ifd(ExifTags.IFD.GPSInfo)[2] = (1.0, 2.0, 3.0)
    content = io.BytesIO()
    image.save(content, Image.registered_extensions()[suffix], exif=exif, **EXACT.get(suffix, {}))
    return content.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_images_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(oriented(suffix, orientation))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape == ((9, 14, 3) if orientation < 5 else (14, 9, 3))
    assert np.array_equal(decoded(path), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_damaged_exif_is_no_fault(tmp_path: Path, suffix: str) -> None:
    content, rng = oriented(suffix, 1), random.Random(0)
    start = content.index(b"MM\0*")
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    expected = decoded(path)
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 6)):
            changed[start + rng.randrange(120)] = rng.randrange(256)
        path.write_bytes(changed)
        pixels = decoded(path)
        assert sorted(pixels.shape) == sorted(expected.shape)
        assert pixels.sum() == expected.sum(), "the same pixels, possibly turned"


# --- what is no image -----------------------------------------------------------------------------------------------


def test_a_postscript_file_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **more: pytest.fail("Ghostscript was called"))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    for suffix in SUFFIXES:
        (tmp_path / f"x{suffix}").write_bytes(content)
        refused(tmp_path / f"x{suffix}", "not an image; allowed formats: BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP")


def test_other_formats_are_never_decoded(tmp_path: Path) -> None:
    Image.init()
    written = []
    for name in sorted(Image.SAVE.keys() - set(FORMATS) - {"MPO", "DIB"}):
        for mode in ("RGB", "L", "1", "P"):
            try:
                halves(mode, 1, 0).save(tmp_path / "x.foreign", name)  # the one for SPIDER takes over the suffix
            except (OSError, KeyError, ValueError):
                continue
            (tmp_path / "x.foreign").rename(tmp_path / "x.png")
            refused(tmp_path / "x.png", "not an image")
            written.append(name)
            break
    assert {"EPS", "TGA", "ICO", "PCX", "PDF"} <= set(written)
    assert not features.check("jpg_2000") or "JPEG2000" in written


def mutated(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    kind = rng.random()
    if kind < 0.2:
        return bytes(changed[: rng.randrange(len(changed))])
    if kind < 0.3:
        at = rng.randrange(len(changed))
        return bytes(changed[:at] + rng.randbytes(rng.randint(1, 40)) + changed[at:])
    for _ in range(rng.choice((1, 2, 5, 20))):
        reach = len(changed) if rng.random() < 0.5 else min(60, len(changed))
        changed[rng.randrange(reach)] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(changed)


@pytest.mark.parametrize("suffix", sorted(WRITABLE.keys() - {".jpeg", ".tiff", ".ppm"}))
def test_a_damaged_file_is_decoded_or_named(tmp_path: Path, suffix: str) -> None:
    """500 mutations each: an image of mode L or RGB, or a data error with the name; nothing else."""
    rng = random.Random(suffix)
    sources = []
    for name in WRITABLE[suffix]:
        PICTURES[name][0]().save(tmp_path / "x", Image.registered_extensions()[suffix])
        sources.append((tmp_path / "x").read_bytes())
    sources += [oriented(suffix, 6)] if suffix in (".jpg", ".png", ".webp", ".tif") else []
    refusals = []
    for _ in range(500):
        (tmp_path / "y").write_bytes(mutated(rng.choice(sources), rng))
        try:
            image = decode_image(tmp_path / "y", "photos.zip/train/cat/y")
        except DataError as error:
            refusals.append(str(error))
        else:
            assert image.mode in ("L", "RGB")
            assert square_pixels(image, 4, 3).shape == (3, 4, 4)
    assert len(refusals) > 50
    assert all(text.startswith("photos.zip/train/cat/y: cannot be decoded: ") for text in refusals)
    assert all(text.isprintable() for text in refusals)


def test_memory_that_runs_out_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves("RGB", LEFT, RIGHT).save(tmp_path / "x.png")

    def exhausted(*args: Any, **more: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(MemoryError):
        decoded(tmp_path / "x.png")


@pytest.mark.parametrize(("channels", "expected"), [(3, list(LEFT)), (1, [94])])
def test_square_pixels(channels: int, expected: list[int]) -> None:
    pixels = square_pixels(Image.new("RGB", (40, 20), LEFT), 8, channels)
    assert (pixels.shape, pixels.dtype) == ((channels, 8, 8), np.uint8)
    assert pixels[:, 3, 3].tolist() == expected
    assert square_pixels(Image.new("L", (3, 30), 77), 8, channels)[:, 0, 0].tolist() == [77] * channels
