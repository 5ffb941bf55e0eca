"""``python -m tests.speed.scaling [--only FACTOR ...] [--rounds N] [--out FOLDER]``: how time grows with size.

Times a training step of a nested ViT at its full size and at 40 % of the MACs while one factor of the backbone or the
batch grows, and the commands ``plan`` and ``report`` while the number of cells grows. CPU seconds on one thread, calls
in turn, medians. Writes scaling.csv, scaling.png and table.md to results/scaling/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

from eavit import NestedViT
from eavit.model import cost
from eavit.space.product import uniform_shape
from tests.faults import light
from tests.faults.speed import bench, fill
from tests.speed.processes import ROOT
from tests.speed.timing import Call, cpu_seconds

OUT = ROOT / "results" / "scaling"
PATCH, HEAD = 8, 32  # pixels, channels
SHARE = 0.4  # of the full MACs, of the smaller submodel
CELLS = "cells"
METHODS = 10  # and as many data sets, of the suite whose cells are counted


@dataclass(frozen=True)
class Size:
    """A backbone and a batch: 192 channels, 6 layers, 64 patches, 16 images where nothing else is said."""

    channels: int = 192
    layers: int = 6
    side: int = 8  # patches
    images: int = 16

    def step(self, share: float) -> tuple[Call, int]:
        """Forward and backward pass of the largest uniform submodel of a share of the MACs; its MACs, of all images."""
        shape = {"embed_dim": self.channels, "depth": self.layers, "num_heads": self.channels // HEAD}
        plain = VisionTransformer(img_size=PATCH * self.side, patch_size=PATCH, num_classes=10, **shape)
        vit = NestedViT.from_timm(plain).train()
        member = vit.backbone.full if share == 1.0 else uniform_shape(vit.backbone, share)
        if member is None:
            raise ValueError(f"{self}: no uniform submodel has {share:.0%} of the MACs")
        images = torch.randn(self.images, 3, PATCH * self.side, PATCH * self.side)
        labels = torch.randint(10, (self.images,))

        def call() -> None:
            vit.zero_grad(set_to_none=True)
            F.cross_entropy(vit(images, member), labels).backward()

        return call, self.images * cost.macs(vit.backbone, member)


FACTORS: dict[str, tuple[str, Mapping[int, Size]]] = {
    "layers": ("layers", {n: Size(layers=n) for n in (2, 4, 8, 16)}),
    "channels": ("channels", {n: Size(channels=n) for n in (64, 128, 256, 512)}),
    "tokens": ("patches of an image", {n * n: Size(side=n) for n in (4, 6, 10, 16)}),
    "batch": ("images of a batch", {n: Size(images=n) for n in (1, 4, 16, 64)}),
}
COUNTS = (300, 1_000, 3_000, 10_000)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*FACTORS, CELLS]
    parser.add_argument("--only", action="append", choices=names, help=f"default: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each call")
    parser.add_argument("--cells", type=int, nargs="+", default=COUNTS, help="numbers of cells, multiples of 100")
    parser.add_argument("--out", type=Path, default=OUT, help="folder that is written; default: results/scaling")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for name in options.only or names:
        rows += commands(options.cells, options.rounds) if name == CELLS else steps(name, options.rounds)
    options.out.mkdir(parents=True, exist_ok=True)
    found = pd.DataFrame(rows)
    found.to_csv(options.out / "scaling.csv", index=False, float_format="%.6g")
    draw(found, options.out / "scaling.png")
    text = table(found)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    sys.stdout.write(f"{text}written: {options.out}\n")
    return 0


def steps(name: str, rounds: int) -> list[dict[str, object]]:
    """Rows of one factor: a step at each of its values, full and small in turn with all others."""
    made = {(value, share): size.step(share) for value, size in FACTORS[name][1].items() for share in (1.0, SHARE)}
    seconds = cpu_seconds({f"{value} {share}": call for (value, share), (call, _) in made.items()}, rounds)
    titles = {1.0: "step, full size", SHARE: f"step, {100 * SHARE:g} % of the MACs"}
    return [
        _row(name, titles[share], value, seconds[f"{value} {share}"], macs)
        for (value, share), (_, macs) in made.items()
    ]


def commands(counts: Sequence[int], rounds: int) -> list[dict[str, object]]:
    """Rows of the number of cells: planning those that are all there, and a report of them from the start."""
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            suite = light.suite(place, "many", METHODS, METHODS, count // METHODS**2, after=False)
            fill(place, suite)
            bench(place, "run", suite.name)  # everything is there: writes points.csv
            planned = [bench(place, "plan", suite.name).cpu for _ in range(min(rounds, 3))]
            reported = []
            for _ in range(min(rounds, 3)):
                (place / "results" / "many" / "table.md").unlink()  # what is whole is not made again
                reported.append(bench(place, "report", suite.name).cpu)
        rows += [_row(CELLS, "plan", count, np.array(planned)), _row(CELLS, "report", count, np.array(reported))]
    return rows


def _row(factor: str, what: str, value: int, seconds: np.ndarray, macs: int | None = None) -> dict[str, object]:
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {"factor": factor, "what": what, "value": value, "seconds": median, "low": low, "high": high, "macs": macs}


def exponent(rows: pd.DataFrame, column: str = "seconds") -> float:
    """Power of the factor with which a column grows between its two largest values."""
    last = rows.sort_values("value").tail(2)
    return float(np.diff(np.log(last[column].astype(float)))[0] / np.diff(np.log(last["value"]))[0])


def table(found: pd.DataFrame) -> str:
    """Markdown with one row for each factor and call."""
    lines = ["| factor | of what | values | CPU seconds | grows with the power | MACs grow with |", f"|{'---|' * 6}"]
    for (factor, what), rows in found.groupby(["factor", "what"], sort=False):
        ends = rows.sort_values("value")
        first, last = ends.iloc[0], ends.iloc[-1]
        macs = "" if ends["macs"].isna().any() else f"{exponent(ends, 'macs'):.2f}"
        title = FACTORS[factor][0] if factor in FACTORS else CELLS
        lines.append(
            f"| {title} | {what} | {first['value']:,} to {last['value']:,} | {first['seconds']:.3g} to "
            f"{last['seconds']:.3g} | {exponent(ends):.2f} | {macs} |"
        )
    head = ["# How time grows", "", "## Growth of CPU seconds", "", "Powers are between the two largest values.", ""]
    return "\n".join([*head, *lines, ""])


def draw(found: pd.DataFrame, path: Path) -> None:
    """A panel a factor: seconds over its values, both in equal ratios."""
    factors = list(found["factor"].unique())
    figure = Figure(figsize=(2.4 * len(factors), 2.6), layout="constrained")
    for axes, factor in zip(figure.subplots(1, len(factors), squeeze=False).flat, factors, strict=True):
        for what, rows in found[found["factor"] == factor].groupby("what", sort=False):
            ordered = rows.sort_values("value")
            axes.loglog(ordered["value"], ordered["seconds"], "o-", markersize=3, linewidth=1, label=what)
            axes.fill_between(ordered["value"], ordered["low"], ordered["high"], alpha=0.2)
        values = sorted(found[found["factor"] == factor]["value"].unique())
        axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=7)
        axes.minorticks_off()
        axes.set(xlabel=FACTORS[factor][0] if factor in FACTORS else CELLS, ylabel="CPU seconds")
        axes.grid(color="0.9")
        axes.legend(fontsize=6, frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
