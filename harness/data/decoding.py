"""Decoding of image files to 8-bit grey or RGB, upright and opaque, with the pixel values that the format states.

What has no transparency, no orientation and 8 bits is decoded as Pillow does. Of several frames or pages the first is
taken. Whatever goes wrong is a :class:`DataError` that names the file.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from harness.data.locations import DataError
from harness.messages import one_line

DECODING_VERSION = 2  # part of the fingerprint of every folder: grows when decoding gives other pixels
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # those of SUFFIXES; Pillow tries no other decoder
BACKGROUND = "white"  # under transparent pixels, before pixels and content hash are taken
GREY_MODES = ("1", "L", "LA", "La")
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, SIGNED = 0, 2  # values of the last two

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Pillow writes to stderr what it raises anyway


def decode_image(file: Path | IO[bytes], name: str) -> Image.Image:
    """Image of mode L or RGB; ``name`` stands for the file in the message of a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                return opaque_image(image)
    except MemoryError:  # a limit of the process, not a fault of the file
        raise
    except UnidentifiedImageError:
        reason = f"not an image; allowed formats: {', '.join(FORMATS)}"
    except Exception as error:  # decoders raise whatever they like
        reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    raise DataError(f"{name}: cannot be decoded: {one_line(reason, 300)}; replace the file or remove it")


def opaque_image(image: Image.Image) -> Image.Image:
    """An opened image, upright and without transparency, in mode L or RGB; DataError where its range is unknown."""
    _correct_transparency(image)
    image.load()
    opaque = _scaled(image) if image.mode[0] in "IF" else _opaque(image)
    opaque.info.clear()
    opaque.getexif()[ExifTags.Base.Orientation] = _orientation(image)
    return ImageOps.exif_transpose(opaque)


def _correct_transparency(image: Image.Image) -> None:
    """Bring the transparent colour of a PNG to the scale of the pixels that Pillow decodes."""
    if not isinstance(image, PngImagePlugin.PngImageFile) or "transparency" not in image.info:
        return
    rawmode = image.tile[0].args
    if rawmode == "RGB;16B":
        raise DataError("16-bit RGB with a transparent colour; save it with an alpha channel or with 8 bits")
    if rawmode in ("L;2", "L;4"):
        image.info["transparency"] *= 85 if rawmode == "L;2" else 17


def _opaque(image: Image.Image) -> Image.Image:
    if SIGNED in _tag(image, SAMPLE_FORMAT):
        raise DataError("signed samples, and the format does not state which value is black; save it as unsigned")
    mode = "L" if image.mode in GREY_MODES else "RGB"
    if not image.has_transparency_data:
        return image.convert(mode)
    background = Image.new("RGBA", image.size, BACKGROUND)
    background.alpha_composite((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
    return background.convert(mode)


def _scaled(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, or 12 in a TIFF, scaled to 8; the range of 32-bit samples is stated nowhere."""
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")):
        kind = "floating-point" if image.mode == "F" else "32-bit or signed integer"
        raise DataError(f"{kind} samples, and the format does not state their range; save it with 8 or 16 bits")
    samples = np.asarray(image)
    grey: NDArray[np.uint8] = (samples >> (4 if 12 in _tag(image, BITS) else 8)).astype(np.uint8)
    if WHITE_IS_ZERO in _tag(image, PHOTOMETRIC):
        grey = ~grey
    if isinstance(image.info.get("transparency"), int):
        grey[samples == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _tag(image: Image.Image, tag: int) -> tuple[int, ...]:
    """Values of a tag of TIFF; empty for other formats."""
    value = image.tag_v2.get(tag, ()) if isinstance(image, TiffImagePlugin.TiffImageFile) else ()
    return value if isinstance(value, tuple) else (value,)


def _orientation(image: Image.Image) -> int:
    """Orientation tag alone: the rest of EXIF is not needed, and damage in it is no fault."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def square_pixels(image: Image.Image, size: int, channels: int, resize: int | None = None) -> NDArray[np.uint8]:
    """Centre of an image, uint8 (channels, size, size): cut out after the shorter side was brought to ``resize``.

    Without ``resize`` to ``size``, so that the square is as large as the image allows.
    """
    return plane_pixels(square_image(image, size, resize, Image.Resampling.BICUBIC), channels)


def square_image(image: Image.Image, size: int, resize: int | None, method: Image.Resampling) -> Image.Image:
    if resize is None:
        return ImageOps.fit(image, (size, size), method=method)
    shorter = min(image.size)
    wide, high = (resize if side == shorter else int(resize * side / shorter) for side in image.size)
    left, top = (round((side - size) / 2) for side in (wide, high))
    return image.resize((wide, high), method).crop((left, top, left + size, top + size))


def plane_pixels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Pixels uint8 (channels, height, width); grey to RGB by repeating, RGB to grey by luma."""
    pixels: NDArray[np.uint8] = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(image.height, image.width, channels).transpose(2, 0, 1)
