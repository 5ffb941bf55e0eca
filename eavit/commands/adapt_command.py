"""``eavit adapt``: a folder of pictures to a family."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from eavit.adaptation.adapt import adapt
from eavit.adaptation.defaults import BUDGETS, DEFAULT_METHOD, data_config, epochs_for, learning_rate_for
from eavit.adaptation.pictures import PictureFolder, describe_samples, digest_of_samples, picture_loader, read_pictures
from eavit.adaptation.threads import default_threads
from eavit.commands.arguments import (
    DEFAULT_BACKBONE,
    ActivationMib,
    Latency,
    Macs,
    Mib,
    Params,
    limits_from,
    limits_of,
    pretrained_backbone,
    profile_file,
)
from eavit.commands.shown import say, show_assumptions, show_members
from eavit.deploy.architecture import rebuilt
from eavit.deploy.elastic import ElasticModel
from eavit.deploy.latency import Profile, ProfileError
from eavit.deploy.limits import Limits
from eavit.model.vit import NestedViT


def fractions(text: str) -> tuple[float, ...]:
    """Budgets from a text such as 0.2,0.5,1."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--budgets {text!r}: must be fractions of the full model's MACs, such as 0.2,0.5,1") from None


def options_from(text: str) -> dict[str, Any]:
    """Options of a method from a JSON object."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--options {text!r}: no JSON: {error}") from None
    if not isinstance(options, dict):
        raise ValueError(f'--options {text!r}: must be a JSON object, such as {{"importance": "taylor"}}')
    return options


def adapt_folder(
    photos: Annotated[Path, typer.Argument(help="folder with a subfolder of pictures for each class")],
    out: Annotated[Path, typer.Option(help="folder of the family that is written")],
    backbone_name: Annotated[
        str, typer.Option("--backbone", help="timm tag, or pico: a grey 24-pixel ViT that comes with the package")
    ] = DEFAULT_BACKBONE,
    size: Annotated[int | None, typer.Option(help="image size in pixels; default: the backbone's own")] = None,
    budgets: Annotated[str, typer.Option(help="fractions of the full model's MACs")] = ",".join(map(str, BUDGETS)),
    macs: Macs = None,
    params: Params = None,
    mib: Mib = None,
    activation_mib: ActivationMib = None,
    latency_ms: Latency = None,
    within: Annotated[
        list[str],
        typer.Option(help="limits of one more member, as latency_ms=4,mib=20; can be given several times"),
    ] = [],  # noqa: B006  # typer reads it
    profile_path: Annotated[
        Path | None, typer.Option("--profile", help="profile of the device, for limits in milliseconds")
    ] = None,
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
    """Adapt a pretrained ViT to a folder of pictures: one family, a submodel for every budget, or within limits."""
    began, wanted, method_options = time.monotonic(), fractions(budgets), options_from(options)
    alone = limits_of(macs=macs, params=params, mib=mib, activation_mib=activation_mib, latency_ms=latency_ms)
    limits = [*([alone] if alone else []), *limits_from(within)]
    profile = None if profile_path is None else Profile.load(profile_path)
    _check_profiled(limits, profile, f"{backbone_name}{f' --size {size}' if size else ''} --data {photos}")
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
            **_goal(wanted, limits, profile),
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
        within=limits or None,
        profile=profile,
        options=method_options,
        schedule={"lr": rate, "batch": batch},
        classes=folder.classes,
        seed=seed,
        workdir=workdir,
        threads=cores,
    )
    elastic.table = replace(elastic.table, method={**elastic.table.method, "pictures": _record(folder)})
    elastic.save(out)
    if profile is not None:
        profile.save(profile_file(out, profile.setting))
    _show_family(elastic, out, len(folder.val), profile)
    say(f"{len(elastic.members)} members in {out}, after {(time.monotonic() - began) / 60:.1f} minutes; next:")
    say(f"  eavit choose {out} --latency-ms MS" if profile is not None else f"  eavit profile {out}")


def _check_profiled(limits: list[dict[str, float]], profile: Profile | None, backbone: str) -> None:
    """ProfileError where milliseconds are limited without a profile; ``backbone``: what is to be profiled."""
    if profile is None and any("latency_ms" in each for each in limits):
        raise ProfileError(f"latency_ms needs --profile FILE; make one on the target machine: eavit profile {backbone}")


def _record(folder: PictureFolder) -> dict[str, Any]:
    """Number of pictures of each split, and their digest, for the manifest."""
    record: dict[str, Any] = {"split": folder.note}
    for name, part in (("train", folder.train), ("val", folder.val)):
        record |= {f"{name}_pictures": len(part), f"{name}_sha256": digest_of_samples(part, folder.classes)}
    return record


def _goal(budgets: tuple[float, ...], limits: list[dict[str, float]], profile: Profile | None) -> dict[str, Any]:
    """Budgets or limits that members are made for, to be printed."""
    if not limits:
        return {"budgets": budgets}
    within = {"members within": "; ".join(str(Limits.of(each)) for each in limits)}
    if profile is None:
        return within
    device = f"{profile.setting} on {profile.machine['processor']}"
    return within | {"milliseconds of": f"{device}, predicted with a median error of {profile.median_error:.1%}"}


def _show_family(elastic: ElasticModel, out: Path, pictures: int, profile: Profile | None) -> None:
    """Members, and the choice for each budget or the member made for each set of limits."""
    show_members(f"{out}: members on {pictures} validation pictures", elastic, elastic.members, profile)
    for row in elastic.table.method.get("within", ()):
        member = next(m for m in elastic.members if str(m.submodel) == row["submodel"])
        takes = ", ".join(f"{name}={value:.4g}" for name, value in row["takes"].items())
        say(f"within {Limits.of(row['limits'])}: {member.submodel} takes {takes}, accuracy {member.accuracy:.1%}")
    for budget, accuracy in elastic.accuracy.items():
        if accuracy is not None:
            say(f"choice for budget {budget:g}: {elastic.choose(budget=budget)}, accuracy {accuracy:.1%}")
    if elastic.accuracy:
        missed = [f"{b:g}" for b, accuracy in elastic.accuracy.items() if accuracy is None]
        say(f"unreachable budgets: {', '.join(missed)}" if missed else "every budget is reached")
    say("the validation pictures also served the search: on new pictures expect slightly less")
