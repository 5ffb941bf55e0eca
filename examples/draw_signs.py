"""Draw pictures to try the library on: photos/train/circle/00.png and so on, four classes of 80 pictures each.

python examples/draw_signs.py photos/train
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

CLASSES = ("circle", "cross", "square", "triangle")
SIZE, COUNT = 64, 80


def sign(kind: str, rng: random.Random) -> Image.Image:
    """One bright sign at a random place on a dark ground."""
    picture = Image.new("RGB", (SIZE, SIZE), tuple(rng.randint(0, 110) for _ in range(3)))
    draw, colour = ImageDraw.Draw(picture), tuple(rng.randint(150, 255) for _ in range(3))
    x, y, r = rng.randint(20, 44), rng.randint(20, 44), rng.randint(9, 18)
    if kind == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif kind == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    elif kind == "triangle":
        draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
    else:
        draw.line((x - r, y, x + r, y), fill=colour, width=6)
        draw.line((x, y - r, x, y + r), fill=colour, width=6)
    return picture


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/draw_signs.py photos/train")
    rng = random.Random(0)
    for kind in CLASSES:
        folder = Path(sys.argv[1], kind)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(COUNT):
            sign(kind, rng).save(folder / f"{number:02}.png")
    print(f"{len(CLASSES) * COUNT} pictures in {sys.argv[1]}")


if __name__ == "__main__":
    main()
