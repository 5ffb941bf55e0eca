"""Data set: bright squares and discs on a dark ground, 60 pictures of each."""

from __future__ import annotations

import random
from collections.abc import Iterator

from PIL import Image, ImageDraw


def signs(each: int = 60) -> Iterator[tuple[str, str, Image.Image]]:
    rng = random.Random(0)  # the same pictures each time
    for _ in range(each):
        for kind in ("disc", "square"):
            picture = Image.new("L", (32, 32), rng.randint(0, 90))
            x, y, r = rng.randint(8, 24), rng.randint(8, 24), rng.randint(4, 8)
            draw = ImageDraw.Draw(picture).ellipse if kind == "disc" else ImageDraw.Draw(picture).rectangle
            draw((x - r, y - r, x + r, y + r), fill=rng.randint(150, 255))
            yield "train", kind, picture  # split (train, val or test), class, picture
