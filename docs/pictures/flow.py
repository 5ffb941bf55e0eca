"""Draw docs/pictures/flow.svg, how a pretrained ViT becomes a family and how the bench measures it.

python docs/pictures/flow.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

LIBRARY, BENCH, DATA = "#dbe9f6", "#e6f2df", "#fbeed5"
BOXES = {  # name: (x, y, colour, text)
    "backbone": (0.0, 2.0, DATA, "pretrained ViT\n(timm)"),
    "sorted": (2.1, 2.0, LIBRARY, "nested ViT, units\nsorted by importance"),
    "family": (4.2, 2.0, LIBRARY, "family: one set\nof trained weights"),
    "policy": (6.3, 2.0, LIBRARY, "policy: budget\n→ submodel"),
    "file": (8.4, 2.0, LIBRARY, "exported file\n(ONNX, timm, torch)"),
    "fit": (4.2, 3.2, DATA, "fit images"),
    "select": (6.3, 3.2, DATA, "select images"),
    "suite": (0.0, 0.6, DATA, "suite.toml"),
    "cells": (2.1, 0.6, BENCH, "cells: method ×\ndata set × seed"),
    "frozen": (6.3, 0.6, BENCH, "choices recorded\nand hashed"),
    "score": (8.4, 0.6, BENCH, "test images opened:\naccuracy, MACs"),
    "report": (8.4, -0.6, BENCH, "points.csv, tables,\nfigures"),
}
ARROWS = [
    *(("backbone", "sorted"), ("sorted", "family"), ("family", "policy"), ("policy", "file")),
    *(("fit", "family"), ("select", "policy"), ("suite", "cells"), ("policy", "frozen"), ("frozen", "score")),
    *(("score", "report"), ("cells", "sorted")),
]
WIDTH, HEIGHT = 1.7, 0.7


def main() -> None:
    mpl.rcParams |= {"svg.hashsalt": "eavit-bench", "svg.fonttype": "path", "font.size": 9}
    figure, axes = plt.subplots(figsize=(10.5, 4.6))
    for x, y, colour, text in BOXES.values():
        box = FancyBboxPatch((x, y), WIDTH, HEIGHT, boxstyle="round,pad=0.04", facecolor=colour, edgecolor="#555555")
        axes.add_patch(box)
        axes.text(x + WIDTH / 2, y + HEIGHT / 2, text, ha="center", va="center")
    for start, end in ARROWS:
        _arrow(axes, start, end)
    axes.text(0.0, 3.75, "one method (eavit, or anybody's)", weight="bold")
    axes.text(0.0, 1.45, "the bench (harness)", weight="bold")
    axes.set(xlim=(-0.2, 10.3), ylim=(-0.8, 4.1))
    axes.axis("off")
    figure.tight_layout()
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None}, facecolor="white")


def _arrow(axes: plt.Axes, start: str, end: str) -> None:
    (x0, y0, *_), (x1, y1, *_) = BOXES[start], BOXES[end]
    gap = 0.06
    if y0 == y1:
        tail, head = (x0 + WIDTH + gap, y0 + HEIGHT / 2), (x1 - gap, y1 + HEIGHT / 2)
    else:
        down = y0 > y1
        tail = (x0 + WIDTH / 2, y0 - gap if down else y0 + HEIGHT + gap)
        head = (x1 + WIDTH / 2, y1 + HEIGHT + gap if down else y1 - gap)
    axes.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": "#333333"})


if __name__ == "__main__":
    main()
