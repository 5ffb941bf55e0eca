"""``python -m harness.pretrain``: train the pico backbone that the package ships.

Supervised training on synthetic letters, which no downstream set shares; about ten minutes on one idle core.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from harness.data import synthetic
from harness.data.batches import MemorySplit
from harness.plugins import resolve

SHIPPED = Path(__file__).parent.parent / "eavit" / "pretrained" / "pico_letters.safetensors"
HELD_OUT_SEED = 1  # of other images than the training images
SIZE = 24


def main(
    out: Annotated[Path, typer.Option(help="file to write")] = SHIPPED,
    images: Annotated[int, typer.Option(help="synthetic letters to train on", min=37)] = 37 * 1500,
    epochs: Annotated[float, typer.Option(min=0.01)] = 8.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="the weights depend on it, as CPU sums do")] = 1,
) -> None:
    """Pretrain the pico ViT on synthetic letters and write it in half precision, with its provenance."""
    torch.set_num_threads(threads)
    train, held_out = (synthetic.letter_images(SIZE, count, s) for count, s in ((images, seed), (3700, HELD_OUT_SEED)))
    recipe = {
        "data": "letters",
        "images": images,
        "epochs": epochs,
        "seed": seed,
        "threads": threads,
        "torch": torch.__version__,
    }
    note = {
        "made_by": "tox run -e pretrain",
        "recipe": json.dumps(recipe),
        "license": "MIT, rendered from matplotlib's fonts",
    }
    splits = (MemorySplit(train, (0.5,), (0.5,), "shift"), MemorySplit(held_out, (0.5,), (0.5,)))
    columns = (*Progress.get_default_columns(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("pretrain", total=None)

        def progress(phase: str, done: int, total: int) -> None:
            bar.update(task, description=phase, completed=done, total=total)

        top1 = resolve("eavit.training.pretrain:pretrain_pico")(
            *splits, len(train.classes), out, epochs=epochs, seed=seed, note=note, progress=progress
        )
    typer.echo(f"{out.name}: {top1:.1%} of held-out letters right")


if __name__ == "__main__":
    typer.run(main)
