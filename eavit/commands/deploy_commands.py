"""``eavit profile``, ``choose``, ``export`` and ``verify``."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from eavit.adaptation.loaders import CheckedLoader, Expected, read_validation
from eavit.adaptation.pictures import picture_loader, read_pictures
from eavit.adaptation.progress import Bars
from eavit.adaptation.refine import refine
from eavit.commands.arguments import (
    ActivationMib,
    Budget,
    Latency,
    Macs,
    Mib,
    Params,
    ProfileFile,
    limits_of,
    pretrained_backbone,
    profile_file,
)
from eavit.commands.shown import say, show_members, show_table
from eavit.deploy.artifact import load_family
from eavit.deploy.comparison import best_probabilities
from eavit.deploy.elastic import ElasticModel
from eavit.deploy.export import export
from eavit.deploy.forms import table_of_forms
from eavit.deploy.latency import Profile, ProfileError
from eavit.deploy.limits import Limits
from eavit.deploy.plots import save_choice_plot, save_profile_plot
from eavit.deploy.profiling import measure_submodels, profile_latency
from eavit.deploy.verify import read_export, verify_export

OpenFamily = tuple[Path, ElasticModel, Profile | None]

NEIGHBOURS = 3  # members shown on either side of the choice
FAILED = 1

FamilyFolder = Annotated[Path, typer.Argument(help="folder that eavit adapt wrote")]


def profile_family(
    family: Annotated[
        str,
        typer.Argument(help="folder that eavit adapt wrote; or the name of a backbone, before it is adapted"),
    ],
    runtime: Annotated[str, typer.Option(help="torch or onnxruntime")] = "torch",
    threads: Annotated[int, typer.Option()] = 1,
    batch: Annotated[int, typer.Option()] = 1,
    seconds: Annotated[float, typer.Option(help="to measure for, about; of processor time with one thread")] = 60.0,
    data: Annotated[Path | None, typer.Option(help="of a backbone: the pictures that it is to be adapted to")] = None,
    size: Annotated[int | None, typer.Option(help="of a backbone: image size in pixels; default: its own")] = None,
    out: Annotated[
        Path | None, typer.Option(help="file that is written; default: in the family's folder, or in this one")
    ] = None,
) -> None:
    """Measure the latency of the layers of a family, or of a backbone that is not adapted yet, on this machine."""
    source, bars = _profiled(family, data, size), Bars()
    say(f"assumed (each can be given): runtime {runtime}, threads {threads}, batch {batch}, {seconds:g} s")
    profile = profile_latency(source, runtime, threads, batch, seconds=seconds, progress=bars)
    bars.close()
    place = Path(family) if Path(family).is_dir() else Path()
    path = profile.save(out or profile_file(place, profile.setting))
    rows = [(key, f"{m:.4g}", f"{p:.4g}", f"{p / m - 1:+.1%}") for key, m, p in profile.held_out]
    show_table(
        "whole submodels that the table has not seen", ("submodel", "measured ms", "predicted ms", "error"), rows
    )
    say(f"median error {profile.median_error:.1%}, rank correlation {profile.rank_correlation:.3f}")
    noise = profile.noise
    say(f"noise: middle half of repeats {noise['spread']:.1%} wide, {noise['disturbed']:.1%} of calls interrupted")
    if noise["busy"] > 0.1:
        say(
            f"WARNING: the machine was busy for {noise['busy']:.0%} of the measurements; profile again when it is quiet"
        )
    plot = save_profile_plot(profile, path.with_suffix(".png"))
    say(f"written: {path}{f', {plot}' if plot else ''}")


def _profiled(family: str, data: Path | None, size: int | None) -> Any:
    """The family in a folder, or a backbone with a head for the classes of some pictures."""
    if Path(family).is_dir():
        return load_family(Path(family))
    if data is None:
        raise ValueError(
            f"{family} is no folder of a family; to profile a backbone of this name before it is adapted, give the "
            "pictures too: --data PHOTOS"
        )
    return pretrained_backbone(family, len(read_pictures(data).classes), size)


def profile_for(folder: Path, elastic: ElasticModel, path: Path | None, limits: dict[str, float]) -> Profile | None:
    """The profile that is named, or this machine's own in the family's folder; none if there is none and none is
    needed. ProfileError on one of another backbone or, unless it was named, of another machine.
    """
    if path is None:
        found = sorted(folder.glob("profile-*.json"))
        if not found:
            if "latency_ms" in limits:
                raise ProfileError(f"{folder} has no profile; make one on the target machine: eavit profile {folder}")
            return None
        if len(found) > 1 and "latency_ms" in limits:
            names = ", ".join(file.name for file in found)
            raise ProfileError(f"{folder} has {len(found)} profiles: {names}; name one with --profile")
        profile = Profile.load(found[0])
        if "latency_ms" in limits:
            profile.check_machine()
    else:
        profile = Profile.load(path)
    profile.check(elastic.backbone)
    return profile


def choose_member(
    families: Annotated[list[Path], typer.Argument(help="folder of a family; or several, such as one for each seed")],
    budget: Budget = None,
    macs: Macs = None,
    params: Params = None,
    mib: Mib = None,
    activation_mib: ActivationMib = None,
    latency_ms: Latency = None,
    profile_path: ProfileFile = None,
    data: Annotated[
        Path | None, typer.Option(help="the pictures of eavit adapt: also measure shapes between the members on them")
    ] = None,
) -> None:
    """Choose the most accurate member within all limits; print its neighbours and the command that exports it.

    Of several families the best one's choice is taken; how probable it is that it is the best one is printed.
    """
    limits = limits_of(
        budget=budget, macs=macs, params=params, mib=mib, activation_mib=activation_mib, latency_ms=latency_ms
    )
    asked = Limits.of(limits)
    family, elastic, profile = _best_family([_opened(folder, profile_path, data, limits) for folder in families], asked)
    choice = elastic.member(profile=profile, **limits)
    place = elastic.members.index(choice)
    around = elastic.members[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1]
    record = elastic.table.validation
    show_members(f"within {asked}, on {record.images} images ({record.role})", elastic, around, profile, choice)
    if profile is not None:
        _say_measured(elastic, choice.submodel, profile)
        plot = save_choice_plot(elastic, profile, choice, family / "choice.png")
        say(f"written: {plot}" if plot else "no plot: matplotlib is not installed")
    options = " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in limits.items())
    named = f" --profile {profile_path}" if profile_path else ""
    say(
        f"export it with:\n  eavit export {family} {options}{named} --format onnx --out {family.with_suffix('.export')}"
    )


def _opened(folder: Path, profile_path: Path | None, data: Path | None, limits: dict[str, Any]) -> OpenFamily:
    elastic = load_family(folder)
    profile = profile_for(folder, elastic, profile_path, limits)
    return folder, elastic if data is None else _refined(elastic, folder, data, profile, limits), profile


def _best_family(families: list[OpenFamily], limits: Limits) -> OpenFamily:
    """The family whose choice is the most accurate; of several the table of their choices is printed.

    UnreachableError where one has no member within the limits, ValueError where they were measured on other images.
    """
    choices = [elastic.fitting(limits, profile)[0] for _, elastic, profile in families]
    best = max(range(len(families)), key=lambda i: choices[i].accuracy)
    if len(families) == 1:
        return families[0]
    if len({elastic.table.validation.sha256 for _, elastic, _ in families}) > 1:
        raise ValueError("the families were measured on different images, so their accuracies do not compare")
    rows = [
        (
            f"{folder}{' <- best' if i == best else ''}",
            str(choice.submodel),
            f"{choice.accuracy:.1%}",
            f"{choice.interval[0]:.1%} to {choice.interval[1]:.1%}",
            f"{share:.0%}",
        )
        for i, ((folder, *_), choice, share) in enumerate(
            zip(families, choices, best_probabilities(choices), strict=True)
        )
    ]
    show_table(f"choices within {limits}", ("family", "submodel", "accuracy", "95 % interval", "is best"), rows)
    accuracies = [choice.accuracy for choice in choices]
    say(f"between families: mean {mean(accuracies):.1%}, standard deviation {stdev(accuracies):.1%}")
    return families[best]


def _refined(
    elastic: ElasticModel, folder: Path, data: Path, profile: Profile | None, limits: dict[str, Any]
) -> ElasticModel:
    """The family with a shape between its members, if one is better within the limits; it is saved then."""
    refined = refine(elastic, _validation(elastic, data), profile=profile, **limits)
    if refined is elastic:
        say("no shape between the members is more accurate within these limits")
        return elastic
    refined.save(folder)
    say(f"a shape between the members is more accurate within these limits; {folder} has it as a member now")
    return refined


def _validation(elastic: ElasticModel, data: Path) -> Any:
    """Loader of the validation part of a folder of pictures; ValueError unless it has the family's classes."""
    pictures, record = read_pictures(data), elastic.table
    if record.classes and tuple(pictures.classes) != record.classes:
        raise ValueError(
            f"{data} has classes {', '.join(pictures.classes)}; the family has {', '.join(record.classes)}"
        )
    return picture_loader(pictures.val, pictures.classes, record.data, 256)


def _say_measured(elastic: ElasticModel, submodel: Any, profile: Profile) -> None:
    """Measure the choice itself, where the profile is of this machine."""
    predicted = profile.latency_ms(submodel)
    try:
        profile.check_machine()
    except ProfileError as error:
        say(f"predicted {predicted:.3g} ms ({error})")
        return
    timing = measure_submodels(elastic, [submodel], profile.setting, 2.0)[submodel]
    busy = "; the machine is busy" if timing.busy else ""
    say(f"predicted {predicted:.3g} ms, measured now {timing.median_ms:.3g} ms (spread {timing.spread:.0%}{busy})")


def export_member(
    family: FamilyFolder,
    out: Annotated[Path, typer.Option(help="folder that is written")],
    formats: Annotated[
        list[str],
        typer.Option(
            "--format", help="safetensors, torch, onnx, onnx_fp16, onnx_int8, pt2; can be given several times"
        ),
    ] = ["safetensors", "torch"],  # noqa: B006  # typer reads it
    submodel: Annotated[str | None, typer.Option(help="a submodel's key, in place of limits")] = None,
    budget: Budget = None,
    macs: Macs = None,
    params: Params = None,
    mib: Mib = None,
    activation_mib: ActivationMib = None,
    latency_ms: Latency = None,
    profile_path: ProfileFile = None,
    data: Annotated[
        Path | None, typer.Option(help="pictures to measure accuracy and latency of each precision on")
    ] = None,
) -> None:
    """Write the choice within all limits as files that run without this library."""
    elastic = load_family(family)
    limits = limits_of(
        budget=budget, macs=macs, params=params, mib=mib, activation_mib=activation_mib, latency_ms=latency_ms
    )
    profile = profile_for(family, elastic, profile_path, limits)
    val = None if data is None else _validation(elastic, data)
    folder = export(elastic, out, submodel, formats=formats, profile=profile, val=val, **limits)
    record = read_export(folder)
    files = [(name, f"{entry['bytes']:,}", entry["sha256"][:16]) for name, entry in record["files"].items()]
    show_table(f"{folder}: {record['submodel']}", ("file", "bytes", "SHA-256"), files)
    if (forms := record["precisions"]) is not None:
        title = f"on {forms['n']} pictures, one at a time with {forms['threads']} threads for the latency"
        show_table(title, ("form", "MiB", "accuracy", "ms"), table_of_forms(forms))
    say(f"check it on real pictures with:\n  eavit verify {folder} --data PHOTOS")


def verify_folder(
    folder: Annotated[Path, typer.Argument(help="folder that eavit export wrote")],
    data: Annotated[Path, typer.Option(help="pictures, laid out as for eavit adapt; its validation part is used")],
) -> None:
    """Run every exported form in a fresh process on real pictures and compare the predictions to the last image."""
    record, pictures = read_export(folder), read_pictures(data)
    classes = record["backbone"]["num_classes"]
    if len(pictures.classes) != classes:
        raise ValueError(f"{data} has {len(pictures.classes)} classes, the exported model {classes}; give its own data")
    config = record["preprocessing"]
    loader = picture_loader(pictures.val, pictures.classes, config, 256)
    size = tuple(record["backbone"]["img_size"])
    images = read_validation(CheckedLoader("data", loader, Expected(config["input_size"][0], size, classes)))
    checks = verify_export(folder, images.whole.batches(256))
    rows = [
        (
            check.form,
            f"{check.agree} of {check.n}",
            f"{check.difference:.1e}",
            "-" if check.correct is None else f"{check.correct}",
            "-" if check.expected is None else f"{check.expected}",
            "passed" if check.passed else check.error or "FAILED",
        )
        for check in checks
    ]
    columns = ("form", "same class", "largest difference of logits", "right", "recorded", "result")
    show_table(f"{folder} on {len(images.whole)} pictures of {data}", columns, rows)
    same = images.sha256 == record["validation"]["sha256"]
    say("the pictures are those of the recorded accuracy" if same else "the pictures are not those of the record")
    if not all(check.passed for check in checks):
        raise typer.Exit(FAILED)
