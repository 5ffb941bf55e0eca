from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from harness.data import synthetic
from harness.data.images import Images
from harness.data.locations import DataError

CHARACTERS = {"letters": synthetic.letter_images, "glyphs": synthetic.glyph_images}
DRAWN = {**CHARACTERS, "shapes": lambda *args: synthetic.shape_images(*args)[0], "textures": synthetic.texture_images}


def separable(images: Images) -> float:
    """Accuracy of a linear readout on half of the images, from its fit to the other half."""
    x = images.pixels.float().flatten(1) / 255
    x = torch.cat([x - x.mean(0), torch.ones(len(x), 1)], dim=1)
    y = torch.nn.functional.one_hot(images.labels, len(images.classes)).float()
    half = len(x) // 2
    a = x[:half]
    weights = torch.linalg.solve(a.T @ a + 30 * torch.eye(a.shape[1]), a.T @ y[:half])
    return float(((x[half:] @ weights).argmax(1) == images.labels[half:]).float().mean())


@pytest.mark.parametrize("name", DRAWN)
def test_same_seed_same_images_and_no_global_state(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = DRAWN[name](16, 120, 3), DRAWN[name](16, 120, 3), DRAWN[name](16, 120, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.pixels, again.pixels)
    assert first.hashes == again.hashes
    assert not torch.equal(first.pixels, other.pixels)
    assert not set(first.hashes) & set(other.hashes)


@pytest.mark.parametrize("name", DRAWN)
def test_sets_are_balanced_bytes_without_repeats(name):
    drawn = DRAWN[name](20, 333)
    counts = np.bincount(drawn.labels)
    assert len(counts) == len(drawn.classes)
    assert counts.max() - counts.min() <= 1
    assert drawn.pixels.dtype == torch.uint8
    assert drawn.pixels.shape[-2:] == (20, 20)
    assert len(set(drawn.hashes)) == len(drawn) == len(torch.unique(drawn.pixels.flatten(1), dim=0))
    assert (drawn.pixels.flatten(1).float().std(1) > 2).all(), "an empty image"


@pytest.mark.parametrize("name", DRAWN)
def test_names_of_images_do_not_depend_on_size(name):
    assert DRAWN[name](8, 64).hashes == DRAWN[name](24, 64).hashes


def test_letters_hold_no_digit_and_share_nothing_with_glyphs():
    assert len(synthetic.LETTERS) == len(set(synthetic.LETTERS)) == 37
    assert not set(synthetic.LETTERS) & set(synthetic.GLYPHS)
    assert not any(symbol.isdigit() for symbol in synthetic.LETTERS)
    assert set("0123456789") <= set(synthetic.GLYPHS)
    assert len(synthetic.GLYPHS) == len(set(synthetic.GLYPHS))


@pytest.mark.parametrize(
    ("symbols", "fonts"),
    [
        (synthetic.LETTERS, synthetic.DEJAVU + synthetic.STIX + synthetic.COMPUTER_MODERN),
        (synthetic.GLYPHS, synthetic.DEJAVU + synthetic.STIX),
    ],
)
def test_every_font_has_every_symbol(symbols, fonts):
    """A font without a symbol draws its replacement box, the same for all that it lacks."""
    atlas = synthetic._atlas(symbols, fonts, 40).flatten(1).view(len(fonts), len(symbols), -1)
    missing = synthetic._atlas("\U000f1234", fonts, 40).flatten(1)
    for font, cells, box in zip(fonts, atlas, missing, strict=True):
        assert len(torch.unique(cells, dim=0)) == len(symbols), font
        assert not (cells == box).all(1).any(), font


def test_letters_are_white_on_black_and_fast():
    start = time.process_time()
    drawn = synthetic.letter_images(28)
    assert time.process_time() - start < 15  # 3 seconds when nothing else runs
    assert len(drawn) == 37 * 514
    assert drawn.pixels.shape[1:] == (1, 28, 28)
    border = torch.cat([drawn.pixels[:, 0, 0], drawn.pixels[:, 0, -1]]).float()
    assert float(border.mean()) < 20 < float(drawn.pixels.float().mean()) < 80


@pytest.mark.parametrize(("name", "at_least"), [("letters", 0.35), ("glyphs", 0.4)])
def test_characters_can_be_separated(name, at_least):
    assert separable(CHARACTERS[name](14, 5000)) > at_least


def test_masks_cover_the_shapes():
    images, masks = synthetic.shape_images(32, 400)
    assert (masks.shape, masks.dtype) == ((400, 32, 32), torch.uint8)
    share = masks.float().mean((1, 2))
    assert float(share.min()) > 0.01
    assert float(share.max()) < 0.5
    inside, outside = masks.bool().unsqueeze(1), ~masks.bool().unsqueeze(1)
    luma = (images.pixels.float() * torch.tensor(synthetic.LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    spread = torch.stack([luma[i][inside[i]].std() for i in range(400)])
    ground = torch.stack([luma[i][outside[i]].mean() for i in range(400)])
    shape = torch.stack([luma[i][inside[i]].mean() for i in range(400)])
    assert float(spread.median()) < 20, "a shape is of one colour"
    assert float(((shape - ground).abs() > 25).float().mean()) > 0.95, "shapes must show in grey too"


def test_shapes_have_the_area_of_their_geometry():
    """Share of the pixels inside, against pi r^2 and its kin, on shapes drawn large and whole."""
    line = torch.linspace(-1.5, 1.5, 601)
    u, v = line.expand(1, 601, 601), line.view(-1, 1).expand(1, 601, 601)
    generator = torch.Generator()
    area = {name: float((draw(u, v, generator) < 0).float().mean()) * 9 for name, draw in synthetic.SHAPES.items()}
    sector = 2 * np.pi / 5
    assert area["circle"] == pytest.approx(np.pi * 0.9**2, rel=0.02)
    assert area["ring"] == pytest.approx(np.pi * (0.96**2 - 0.48**2), rel=0.02)
    assert area["square"] == pytest.approx(1.6**2, rel=0.02)
    assert area["triangle"] == pytest.approx(3 * np.sqrt(3) / 4, rel=0.02)
    assert area["star"] == pytest.approx(10 * 0.5 * 0.42 * np.sin(sector / 2), rel=0.02)
    assert area["cross"] == pytest.approx(2 * (2 * 0.6) - 0.6**2, rel=0.02)
    assert area["semicircle"] == pytest.approx(np.pi / 2, rel=0.02)


def test_there_are_enough_kinds():
    assert len(synthetic.SHAPES) >= 6
    assert len(synthetic.TEXTURES) >= 8


def test_textures_differ_by_class():
    """Magnitudes of the spectrum, which do not see position, tell textures apart far above chance."""
    drawn = synthetic.texture_images(24, 2000)
    grey = (drawn.pixels.float() * torch.tensor(synthetic.LUMA).view(1, 3, 1, 1)).sum(1)
    grey = (grey - grey.mean((1, 2), keepdim=True)) / grey.std((1, 2), keepdim=True)
    spectrum = torch.fft.rfft2(grey).abs().log1p()
    scaled = ((spectrum - spectrum.mean(0)) / spectrum.std() * 32 + 128).clamp(0, 255)
    assert separable(Images(scaled.byte().unsqueeze(1), drawn.labels, drawn.classes, drawn.hashes)) > 0.5


def test_too_much_memory_is_refused_before_drawing():
    with pytest.raises(DataError, match="GiB"):
        synthetic.shape_images(2000, 4000)
