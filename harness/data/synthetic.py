"""Synthetic data sets, drawn in memory from a seed: letters, glyphs, shapes (with masks) and textures.

Labels cycle through the classes, so every set is balanced. The split of an image is decided by the hash of (set, seed,
index), not of its pixels: it depends neither on the size nor on the last bit of a machine's arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from harness.data.batches import named_generator
from harness.data.images import LUMA, Images, check_memory, recipe_hash

VERSION = 1  # of every recipe below: a change of what is drawn is another data set
DEJAVU = tuple(
    f"DejaVu{family}.ttf"
    for family in (
        *("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"),
        *("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique"),
        *("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"),
    )
)
STIX = ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf")
COMPUTER_MODERN = ("cmb10.ttf", "cmr10.ttf", "cmss10.ttf", "cmti10.ttf", "cmtt10.ttf", "cmmi10.ttf")
# The 37 letter shapes of EMNIST "balanced": small letters that only repeat their capital are left out.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "abdefghnqrt"
# No symbol of LETTERS and none that looks like one; Computer Modern's files lack most of these.
GLYPHS = "0123456789" + "ΓΔΘΛΞΠΣΦΨΩ" + "αβγδλμ" + "&@#%?$"
COUNTS = {"letters": 37 * 514, "glyphs": 32 * 125, "shapes": 8 * 500, "textures": 10 * 400}  # images of each set

Draw = Callable[[Tensor, Tensor, Generator], Tensor]  # coordinates u, v (n, size, size) -> value of each pixel
DrawBatch = Callable[[Draw, int, int, Generator], Tensor]  # count, size -> uint8 (n, channels, size, size)


def letter_images(size: int, count: int = COUNTS["letters"], seed: int = 0) -> Images:
    """Pretraining set: white letters on black, 37 classes, no digit."""
    return _characters("letters", LETTERS, DEJAVU + STIX + COMPUTER_MODERN, size, count, seed)


def glyph_images(size: int, count: int = COUNTS["glyphs"], seed: int = 0) -> Images:
    """Downstream set of characters: digits, Greek and signs, none of them in :func:`letter_images`."""
    return _characters("glyphs", GLYPHS, DEJAVU + STIX, size, count, seed)


def shape_images(size: int, count: int = COUNTS["shapes"], seed: int = 0) -> tuple[Images, Tensor]:
    """Coloured shapes on a textured background, RGB, and their masks uint8 (n, size, size), 1 inside the shape."""
    pixels = _by_class("shapes", SHAPES, (count, 4, size), seed, _draw_shapes)
    return _labelled("shapes", pixels[:, :3], SHAPES, seed), (pixels[:, 3] > 127).byte()


def texture_images(size: int, count: int = COUNTS["textures"], seed: int = 0) -> Images:
    """Two-coloured patterns of random orientation, scale and contrast, RGB."""
    pixels = _by_class("textures", TEXTURES, (count, 3, size), seed, _draw_textures)
    return _labelled("textures", pixels, TEXTURES, seed)


def outline(name: str) -> Images:
    """A set of the usual size with its labels and hashes, but without pixels; nothing is drawn."""
    classes = {"letters": LETTERS, "glyphs": GLYPHS, "shapes": SHAPES, "textures": TEXTURES}[name]
    return _labelled(name, torch.empty(COUNTS[name], 0), classes, seed=0)


def _labelled(name: str, pixels: Tensor, classes: Iterable[str], seed: int) -> Images:
    classes = tuple(classes)
    labels = torch.arange(len(pixels)) % len(classes)
    hashes = tuple(recipe_hash(name, VERSION, seed, index) for index in range(len(pixels)))
    return Images(pixels.contiguous(), labels, classes, hashes)


def _uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def _bytes(values: Tensor) -> Tensor:
    return (values * 255).round_().clamp_(0, 255).byte()


def _batch_size(size: int) -> int:
    return max(1, 2**22 // size**2)


# --- characters -------------------------------------------------------------------------------------------------


def _characters(name: str, symbols: str, fonts: Sequence[str], size: int, count: int, seed: int) -> Images:
    check_memory(count, size, 1)
    generator = named_generator("render", name, seed)
    atlas = _atlas(symbols, fonts, min(256, max(56, 2 * size)))
    font = torch.randint(0, len(fonts), (count,), generator=generator)
    cells = font * len(symbols) + torch.arange(count) % len(symbols)
    pixels = [_jittered(atlas[part], size, generator) for part in cells.split(_batch_size(2 * size))]
    return _labelled(name, torch.cat(pixels), symbols, seed)


def _atlas(symbols: str, fonts: Sequence[str], side: int) -> Tensor:
    """Every symbol of every font: uint8 (fonts * symbols, 1, side, side), the ink centred in 2/3 of the side."""
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    cells: list[NDArray[np.uint8]] = []
    for font in fonts:
        face = ImageFont.truetype(str(folder / font), side)
        cells.extend(_ink(face, symbol, side) for symbol in symbols)
    return torch.from_numpy(np.stack(cells)).unsqueeze(1)


def _ink(face: object, symbol: str, side: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (3 * side, 3 * side))
    ImageDraw.Draw(canvas).text((side, side), symbol, fill=255, font=face)  # type: ignore[arg-type]
    ink = canvas.crop(canvas.getbbox())
    scale = side * 2 / 3 / max(ink.size)
    width, height = (max(1, round(length * scale)) for length in ink.size)
    cell = Image.new("L", (side, side))
    resized = ink.resize((width, height), Image.Resampling.BICUBIC)
    cell.paste(resized, ((side - width) // 2, (side - height) // 2))
    return np.asarray(cell, dtype=np.uint8)


def _jittered(ink: Tensor, size: int, generator: Generator) -> Tensor:
    """Random affine map, a slight warp, pen weight, contrast and noise; drawn at twice the size, then averaged."""
    count = len(ink)
    grid = F.affine_grid(_affines(count, generator), [count, 1, 2 * size, 2 * size], align_corners=False)
    warp = 0.06 * torch.randn(count, 2, 4, 4, generator=generator)
    bent = F.interpolate(warp, size=(2 * size, 2 * size), mode="bicubic", align_corners=True)
    drawn = F.grid_sample(ink.float() / 255, grid + bent.permute(0, 2, 3, 1), align_corners=False)
    fine = F.avg_pool2d(drawn, 2)
    pen = 2 ** _uniform(generator, -0.8, 0.6, count, 1, 1, 1)  # a power of the coverage thickens or thins the stroke
    value = fine.clamp(min=0).pow(pen) * _uniform(generator, 0.75, 1.0, count, 1, 1, 1)
    noise = torch.randn(value.shape, generator=generator) * _uniform(generator, 0.0, 0.08, count, 1, 1, 1)
    return _bytes(value + noise)


def _affines(count: int, generator: Generator) -> Tensor:
    """Maps of output to input coordinates (count, 2, 3): rotation up to 15 degrees, shear, scale per axis, shift."""
    turn = _uniform(generator, -math.pi / 12, math.pi / 12, count)
    shear = _uniform(generator, -0.25, 0.25, count)
    wide, high = _uniform(generator, 0.65, 1.1, 2, count)  # ink over 0.6 to 1 of the side
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = turn.cos() * wide, (shear - turn.sin()) * high
    theta[:, 1, 0], theta[:, 1, 1] = turn.sin() * wide, turn.cos() * high
    theta[:, :, 2] = _uniform(generator, -0.12, 0.12, count, 2)
    return theta


# --- shapes and textures ----------------------------------------------------------------------------------------


def _by_class(name: str, classes: dict[str, Draw], shape: tuple[int, int, int], seed: int, draw: DrawBatch) -> Tensor:
    """Draw class by class, each from a generator of its own, in batches; ``shape``: count, channels, size."""
    count, channels, size = shape
    check_memory(count, size, channels)
    pixels = torch.empty(count, channels, size, size, dtype=torch.uint8)
    for label, (title, function) in enumerate(classes.items()):
        generator = named_generator("render", name, seed, title)
        for rows in torch.arange(label, count, len(classes)).split(_batch_size(size)):
            pixels[rows] = draw(function, len(rows), size, generator)
    return pixels


def _rotated(count: int, size: int, generator: Generator, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates moved by ``shift`` (2, n), rotated by a random angle and divided by ``scale`` (n)."""
    line = (torch.arange(size) + 0.5) * 2 / size - 1  # pixel centres in -1..1
    angle = _uniform(generator, 0, 2 * math.pi, count, 1, 1)
    x, y = line.view(1, 1, size) - shift[0].view(-1, 1, 1), line.view(1, size, 1) - shift[1].view(-1, 1, 1)
    u, v = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    return u / scale.view(-1, 1, 1), v / scale.view(-1, 1, 1)


def _two_colours(count: int, generator: Generator, contrast: float) -> tuple[Tensor, Tensor]:
    """Two RGB colours (n, 3, 1, 1) whose luma differs by at least ``contrast``, so that they differ in grey too."""
    colours = torch.rand(2, count, 3, generator=generator)
    dark = (1 - contrast) * _uniform(generator, 0, 1, count)
    light = dark + contrast + (1 - contrast - dark) * _uniform(generator, 0, 1, count)
    flip = torch.rand(count, generator=generator) < 0.5
    target = torch.stack([torch.where(flip, light, dark), torch.where(flip, dark, light)]).unsqueeze(-1)
    luma = (colours * torch.tensor(LUMA)).sum(-1, keepdim=True)
    darker = colours * target / luma.clamp(min=1e-6)
    lighter = 1 - (1 - colours) * (1 - target) / (1 - luma).clamp(min=1e-6)
    # Mixed towards black or white until the luma is the target: stays inside 0..1, unlike adding an offset.
    first, second = torch.where(target < luma, darker, lighter).view(2, count, 3, 1, 1)
    return first, second


def _clouds(count: int, size: int, generator: Generator) -> Tensor:
    """Smooth noise of three scales in 0..1, (n, size, size)."""
    total = torch.zeros(count, 1, size, size)
    for cells, weight in ((3, 1.0), (6, 0.6), (12, 0.35)):
        coarse = torch.randn(count, 1, cells, cells, generator=generator)
        total += weight * F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return torch.sigmoid(1.6 * total.squeeze(1))


def _draw_shapes(distance_of: Draw, count: int, size: int, generator: Generator) -> Tensor:
    """RGB and coverage, uint8 (n, 4, size, size)."""
    scale, shift = _uniform(generator, 0.4, 0.7, count), _uniform(generator, -0.3, 0.3, 2, count)
    u, v = _rotated(count, size, generator, scale, shift)
    distance = distance_of(u, v, generator) * scale.view(-1, 1, 1)
    cover = (0.5 - distance * size / 2).clamp(0, 1).unsqueeze(1)  # one pixel of soft edge
    ground, colour = _two_colours(count, generator, 0.35)
    patchy = ground * (0.65 + 0.5 * _clouds(count, size, generator).unsqueeze(1))
    noise = 0.04 * torch.randn(count, 3, size, size, generator=generator)
    return _bytes(torch.cat([patchy * (1 - cover) + colour * cover + noise, cover], dim=1))


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five points: fold the plane into one half-sector, where the outline is a single line."""
    sector = 2 * math.pi / 5
    angle = (torch.remainder(torch.atan2(v, u) + sector / 2, sector) - sector / 2).abs()
    radius, inner = torch.hypot(u, v), 0.42
    edge = (inner * math.cos(sector / 2) - 1, inner * math.sin(sector / 2))
    length = math.hypot(*edge)
    return ((radius * angle.cos() - 1) * edge[1] - radius * angle.sin() * edge[0]) / length


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    sides = [math.cos(a) * u + math.sin(a) * v - 0.5 for a in (math.pi / 2, math.pi * 7 / 6, math.pi * 11 / 6)]
    return torch.stack(sides).amax(0)


def _cross(u: Tensor, v: Tensor) -> Tensor:
    bars = torch.maximum(u.abs() - 1, v.abs() - 0.3), torch.maximum(v.abs() - 1, u.abs() - 0.3)
    return torch.minimum(*bars)


# Signed distances, negative inside, in units of the shape's radius.
SHAPES: dict[str, Draw] = {
    "circle": lambda u, v, _: torch.hypot(u, v) - 0.9,
    "ring": lambda u, v, _: (torch.hypot(u, v) - 0.72).abs() - 0.24,
    "square": lambda u, v, _: torch.maximum(u.abs(), v.abs()) - 0.8,
    "triangle": lambda u, v, _: _triangle(u, v),
    "star": lambda u, v, _: _star(u, v),
    "cross": lambda u, v, _: _cross(u, v),
    "crescent": lambda u, v, _: torch.maximum(torch.hypot(u, v) - 1, 0.8 - torch.hypot(u - 0.5, v)),
    "semicircle": lambda u, v, _: torch.maximum(torch.hypot(u, v + 0.4) - 1, -v - 0.4),
}


def _draw_textures(pattern: Draw, count: int, size: int, generator: Generator) -> Tensor:
    scale, shift = _uniform(generator, 0.4, 1.0, count), _uniform(generator, -1.0, 1.0, 2, count)
    u, v = _rotated(count, size, generator, scale, shift)
    value = pattern(u, v, generator).unsqueeze(1)
    first, second = _two_colours(count, generator, 0.3)
    noise = 0.05 * torch.randn(count, 3, size, size, generator=generator)
    return _bytes(first * (1 - value) + second * value + noise)


def _wave(phase: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.sin(2 * math.pi * phase)


def _cell(values: Tensor) -> Tensor:
    """Coordinate inside the unit cell, -0.5..0.5."""
    return torch.remainder(values, 1) - 0.5


def _weave(u: Tensor, v: Tensor) -> Tensor:
    """Threads that pass over and under each other: bright ridge lines, the upper thread by parity of the cell."""
    over = torch.remainder(torch.floor(2 * u) + torch.floor(2 * v), 2) < 1
    return torch.where(over, 1 - (2 * _cell(2 * u)).abs(), 0.55 * (1 - (2 * _cell(2 * v)).abs()))


def _bricks(u: Tensor, v: Tensor) -> Tensor:
    along = _cell(u + 0.5 * torch.remainder(torch.floor(2 * v), 2))
    mortar = torch.minimum(0.5 - along.abs(), (0.5 - _cell(2 * v).abs()) / 2)
    return (mortar > 0.07).float()


TEXTURES: dict[str, Draw] = {
    "stripes": lambda u, v, _: (_wave(1.5 * u) > 0.5).float(),
    "waves": lambda u, v, _: _wave(u + 0.15 * torch.sin(2 * math.pi * v)),
    "dots": lambda u, v, _: (torch.hypot(_cell(1.4 * u), _cell(1.4 * v)) < 0.3).float(),
    "checks": lambda u, v, _: torch.remainder(torch.floor(1.6 * u) + torch.floor(1.6 * v), 2),
    "noise": lambda u, v, generator: torch.rand(u.shape, generator=generator),
    "clouds": lambda u, v, generator: _clouds(len(u), u.shape[-1], generator),
    "weave": lambda u, v, _: _weave(u, v),
    "gradient": lambda u, v, _: (u - u.amin((1, 2), True)) / (u.amax((1, 2), True) - u.amin((1, 2), True)),
    "rings": lambda u, v, _: _wave(1.6 * torch.hypot(u, v)),
    "bricks": lambda u, v, _: _bricks(u, v),
}
