"""``eavit adapt``: a folder of pictures to a family."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from eavit import weights
from eavit.adaptation.adapt import adapt
from eavit.adaptation.defaults import BUDGETS, DEFAULT_METHOD, data_config, epochs_for, learning_rate_for
from eavit.adaptation.pictures import describe_samples, picture_loader, read_pictures
from eavit.adaptation.threads import default_threads
from eavit.commands.shown import say, show_assumptions, show_members
from eavit.deploy.architecture import rebuilt
from eavit.deploy.elastic import ElasticModel
from eavit.model.vit import NestedViT

PICO = "pico"  # the backbone that the package brings: 24 pixels, grey
DEFAULT_BACKBONE = "vit_small_patch14_dinov2.lvd142m"


def pretrained_backbone(name: str, classes: int, size: int | None) -> Any:
    """A pretrained timm ViT by tag, or the package's own pico ViT."""
    if name == PICO:
        if size not in (None, weights.PICO["img_size"]):
            raise ValueError(f"--size {size}: backbone pico takes {weights.PICO['img_size']} pixels only")
        return weights.pico_letters(classes)
    options: dict[str, Any] = {} if size is None else {"img_size": size}
    return weights.timm_vit(classes, name, **options)


def fractions(text: str) -> tuple[float, ...]:
    """Budgets from a text such as 0.2,0.5,1."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--budgets {text!r}: must be fractions of the full model's MACs, such as 0.2,0.5,1") from None


def adapt_folder(
    photos: Annotated[Path, typer.Argument(help="folder with a subfolder of pictures for each class")],
    out: Annotated[Path, typer.Option(help="folder of the family that is written")],
    backbone_name: Annotated[
        str, typer.Option("--backbone", help="timm tag, or pico: a grey 24-pixel ViT that comes with the package")
    ] = DEFAULT_BACKBONE,
    size: Annotated[int | None, typer.Option(help="image size in pixels; default: the backbone's own")] = None,
    budgets: Annotated[str, typer.Option(help="fractions of the full model's MACs")] = ",".join(map(str, BUDGETS)),
    epochs: Annotated[float | None, typer.Option(help="default: by the number of pictures")] = None,
    lr: Annotated[float | None, typer.Option(help="peak learning rate; default: by the width of the backbone")] = None,
    batch: Annotated[int, typer.Option(help="pictures of one step")] = 32,
    method: Annotated[str, typer.Option(help="a method of eavit.methods")] = DEFAULT_METHOD,
    options: Annotated[str, typer.Option(help="options of the method, as JSON")] = "{}",
    flip: Annotated[bool, typer.Option(help="flip half of the training pictures; not for digits or text")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="threads of torch; default: physical cores")] = None,
    workers: Annotated[int, typer.Option(help="processes that read pictures")] = 0,
    workdir: Annotated[Path | None, typer.Option(help="a killed run goes on from here")] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Adapt a pretrained ViT to a folder of pictures: one family, a submodel for every budget."""
    began, wanted = time.monotonic(), fractions(budgets)
    folder = read_pictures(photos)
    model = pretrained_backbone(backbone_name, len(folder.classes), size)
    rebuilt(NestedViT.from_timm(model))  # what cannot be saved in the end is refused now
    out.mkdir(parents=True, exist_ok=True)
    config = data_config(model, {})
    train = picture_loader(folder.train, folder.classes, config, batch, training=True, flip=flip, workers=workers)
    val = picture_loader(folder.val, folder.classes, config, 256, workers=workers)
    epochs = epochs_for(len(folder.train)) if epochs is None else epochs
    rate = learning_rate_for(model.embed_dim) if lr is None else lr
    cores, why = default_threads() if threads is None else (threads, "as given")
    say(f"{len(folder.classes)} classes; train: {describe_samples(folder.train)}; val: {describe_samples(folder.val)}")
    show_assumptions(
        {
            "split": folder.note,
            "backbone": backbone_name,
            "preprocessing": ", ".join(f"{key} {value}" for key, value in config.items()),
            "epochs": f"{epochs:g}",
            "learning rate": f"{rate:g}",
            "batch": batch,
            "augmentation": f"random crops, {'with' if flip else 'no'} flips",
            "method": method,
            "budgets": wanted,
            "threads": f"{cores}, {why}",
            "seed": seed,
        }
    )
    elastic = adapt(
        model,
        train,
        val,
        wanted,
        epochs,
        method,
        options=json.loads(options),
        schedule={"lr": rate, "batch": batch},
        classes=folder.classes,
        seed=seed,
        workdir=workdir,
        threads=cores,
    )
    elastic.save(out)
    _show_family(elastic, out, len(folder.val), (time.monotonic() - began) / 60)


def _show_family(elastic: ElasticModel, out: Path, pictures: int, minutes: float) -> None:
    """Members, the choice for each budget, and what to do next."""
    show_members(f"{out}: members on {pictures} validation pictures", elastic, elastic.members)
    for budget, accuracy in elastic.accuracy.items():
        if accuracy is not None:
            say(f"choice for budget {budget:g}: {elastic.choose(budget=budget)}, accuracy {accuracy:.1%}")
    missed = [f"{b:g}" for b, accuracy in elastic.accuracy.items() if accuracy is None]
    say(f"unreachable budgets: {', '.join(missed)}" if missed else "every budget is reached")
    say("the validation pictures also served the search: on new pictures expect slightly less")
    say(f"{len(elastic.members)} members in {out}, after {minutes:.1f} minutes; next:")
    say(f"  eavit profile {out}")
