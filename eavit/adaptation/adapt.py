"""Adapt a pretrained ViT on data loaders: one training, a submodel for every budget."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from torch import nn

from eavit import methods
from eavit.adaptation.defaults import (
    BUDGETS,
    DEFAULT_METHOD,
    data_config,
    epochs_for,
    learning_rate_for,
)
from eavit.adaptation.loaders import ValidationImages
from eavit.adaptation.progress import reporter
from eavit.adaptation.task import (
    LoaderTask,
    claim,
    class_names,
    fit_split,
    validation_of,
)
from eavit.adaptation.threads import default_threads, torch_threads
from eavit.adaptation.tracking import Tracker, log_members, tracked
from eavit.adaptation.within import Within, recorded, wanted_of
from eavit.deploy.elastic import ElasticModel, FamilyRecord, Timed, Validation, ascending
from eavit.deploy.members import distinct_members, measured, own_parameters
from eavit.methods.choosing import SelectOptions
from eavit.methods.fitting import digest_of
from eavit.methods.recipe import Recipe
from eavit.model.inputs import Batches
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed, nearest_hint, refuse
from eavit.selection.own_selectors import selector_factory
from eavit.selection.selectors import SELECTORS, uniform
from eavit.space.space import Space
from eavit.training.task import Progress, Spent
from eavit.training.train import Schedule

SCHEDULE_KEYS = tuple(Schedule.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class _Answer:
    """Weights of an adapted method, its choice for a budget, and the module that it would deploy."""

    vit: NestedViT
    policy: Any
    module: Any
    report: Mapping[str, Any]
    filled: tuple[Submodel, ...] = ()  # members that were made for limits


def adapt(
    model: nn.Module,
    train: Batches,
    val: Batches,
    budgets: Sequence[float] = BUDGETS,
    epochs: float | None = None,
    method: str | Recipe = DEFAULT_METHOD,
    *,
    within: Within | None = None,
    profile: Timed | None = None,
    options: Mapping[str, Any] | None = None,
    schedule: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    workdir: str | Path | None = None,
    threads: int | None = None,
    progress: bool | Progress = True,
    tracker: Tracker | None = None,
) -> ElasticModel:
    """Adapt a timm ViT to labelled images, so that one set of weights has a submodel for every budget.

    ``train`` and ``val`` are any re-iterables of (images, labels), such as DataLoaders: float images normalised as the
    model expects, and whole-number labels. ``train`` shuffles and augments as it likes; ``val`` gives the same images
    in the same order each time. ``budgets`` are fractions of the model's MACs.

    ``within``, in the place of budgets: limits that members use up, such as ``[{"latency_ms": 8}, {"latency_ms": 4,
    "mib": 20}]``, of the kinds of :meth:`ElasticModel.choose`. One member is made for each, by what it takes of them;
    the full model is a member too. Milliseconds need a ``profile`` of the device (:func:`eavit.profile_latency` takes
    the model).

    ``epochs`` and what ``schedule`` leaves out (lr, min_lr, batch, warmup, weight_decay, smoothing, drop_path, clip,
    precision) follow from the number of images and the width of the model. ``method``: a name in
    :mod:`eavit.methods`, with its ``options``, or a Recipe. ``classes``: names of the classes. ``data``: preprocessing
    by timm's names (mean, std, interpolation, crop_pct, ...), to be kept with the family, where it is not that of the
    pretrained weights. ``workdir``: a run that was killed goes on where it was. ``threads`` of torch on the
    CPU: by default OMP_NUM_THREADS, else one for each physical core. ``progress``: bars, or a function (phase, done,
    total). ``tracker``: of ``accelerate.tracking``, such as TensorBoardTracker; gets settings, speed and members.

    ValueError on a wrong argument, by name; in particular CannotNestError for a backbone that cannot be nested,
    LoaderError for batches that the model does not take, UnreachableError for limits below the smallest submodel,
    WorkdirError for the ``workdir`` of another run.
    """
    recipe, budgets = _recipe(method, options or {}), _checked_budgets(budgets, within)
    recipe.check(model, budgets, (), "equal_steps")  # CannotNestError before any work
    wanted = wanted_of(within, recipe, model, profile)
    names, config = class_names(model, train, classes), data_config(model, data or {})
    images, (fit, batch) = validation_of(model, val), fit_split(model, train)
    table = _schedule(model, len(fit), batch, epochs, schedule or {})
    threads = default_threads()[0] if threads is None else threads
    with ExitStack() as stack:
        stack.enter_context(torch_threads(threads))
        folder = Path(workdir) if workdir is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chosen: dict[str, Any] = {
            "method": recipe.name,
            "options": dict(options or {}),
            "schedule": table,
            "seed": seed,
        }
        claim(folder, chosen | _inputs(model, budgets, len(fit), images) | dict(wanted.inputs))
        report = tracked(reporter(progress, stack), tracker, chosen | {"budgets": budgets}, stack)
        spent = Spent()
        folds = (images.fold_a, images.fold_b)
        task = LoaderTask(
            *(fit, *folds, lambda: deepcopy(model).cpu(), budgets, table, seed, folder, report, spent),
            targets=wanted.targets,
        )
        adapted: Any = recipe.adapt(task)
        if not isinstance(getattr(adapted, "vit", None), NestedViT):
            raise ValueError(
                f"method {recipe.name} trains a separate model for each budget, not one family; its result is not an "
                f"ElasticModel. Choose a method such as {DEFAULT_METHOD}"
            )
        spending = {"train_images": len(fit), "train_macs": spent.macs, "threads": threads}
        about = chosen | spending | {"card": dict(recipe.card)}
        filled = tuple(map(Submodel.parse, adapted.report()["filled"][: len(wanted.limits)])) if within else ()
        answer = _Answer(adapted.vit, adapted.select, adapted.module, about, filled)
        family = _family(answer, budgets, images, model, config, names, report)
        return log_members(recorded(family, wanted, filled) if filled else family, report)


def _inputs(model: nn.Module, budgets: Sequence[float], train: int, val: ValidationImages) -> dict[str, Any]:
    """Inputs that the files of a run depend on, beside its method."""
    return {"budgets": list(budgets), "train images": train, "val": val.sha256, "weights": digest_of(model)}


def family_of(
    vit: NestedViT,
    val: Batches,
    budgets: Sequence[float] = BUDGETS,
    *,
    selector: str = "nsga2",
    evaluations: int = 200,
    classes: Sequence[str] | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: bool | Progress = True,
) -> ElasticModel:
    """Choose the members of a nested ViT that was trained in a loop of one's own, such as with :class:`eavit.Sampled`.

    ``selector`` is one of :data:`eavit.selection.selectors.SELECTORS`, or ``module:name`` of one's own; those that
    measure get so many ``evaluations`` on one half of ``val``.
    """
    if not isinstance(vit, NestedViT):
        raise TypeError(f"vit is a {type(vit).__name__}; must be a nested ViT, as NestedViT.from_timm(model) makes it")
    budgets, images = _checked_budgets(budgets), validation_of(vit, val)
    names, config = class_names(vit, val, classes), data_config(vit, data or {})
    selector_factory("selector", selector, tuple(SELECTORS))  # refuses wrong values by the name of this argument
    choosing = SelectOptions(selector, "free", evaluations).choosing(uniform())
    with ExitStack() as stack:
        report, folder = reporter(progress, stack), Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task = LoaderTask(
            images.fold_a, images.fold_a, images.fold_b, lambda: vit, budgets, {}, seed, folder, report, Spent()
        )
        selection = choosing.run(task, vit, Space.eavit(vit.backbone))
        about = {"method": "own training loop", "selector": selector, "evaluations": selection.evaluations}
        answer = _Answer(vit, selection.policy, None, about)
        return _family(answer, budgets, images, vit, config, names, report)


def _recipe(method: str | Recipe, options: Mapping[str, Any]) -> Recipe:
    if isinstance(method, Recipe):
        if options:
            raise ValueError("options belong to a method that is named; a Recipe has its own already")
        return method
    make: Callable[..., Recipe] = getattr(methods, allowed("method", method, methods.__all__))
    parameters = signature(make).parameters.values()
    known = [each.name for each in parameters if each.kind is not Parameter.VAR_KEYWORD]
    if len(known) == len(parameters):  # one that takes any option refuses unknown ones itself
        refuse({name: value for name, value in options.items() if name not in known}, known, {})
    return make(**options)


def _checked_budgets(budgets: Sequence[float], within: Within | None = None) -> tuple[float, ...]:
    """Budgets, ascending; none where limits stand in their place."""
    values = tuple(budgets)
    if within is not None:
        if values != BUDGETS:
            raise ValueError(f"budgets={list(values)} and within: give one; within=[{{'budget': 0.4}}] is a budget too")
        return ()
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise ValueError(f"budgets: {value!r} must be a fraction of the model's MACs, above 0 and at most 1")
    if not values or len(set(values)) != len(values):
        raise ValueError(f"budgets={list(values)}: at least one, and each once")
    return tuple(sorted(map(float, values)))


def _schedule(model: Any, images: int, batch: int, epochs: float | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    for key in changes:
        if key not in SCHEDULE_KEYS:
            raise ValueError(
                f"schedule {key} is unknown; allowed: {', '.join(SCHEDULE_KEYS)}{nearest_hint(key, SCHEDULE_KEYS)}"
            )
    rate = changes.get("lr", learning_rate_for(model.embed_dim))
    own = {"epochs": epochs_for(images) if epochs is None else epochs, "batch": batch, "lr": rate, "min_lr": rate / 100}
    table = own | dict(changes)
    Schedule(**table)  # refuses impossible values
    return table


def _family(
    answer: _Answer,
    budgets: Sequence[float],
    images: ValidationImages,
    model: Any,
    config: Mapping[str, Any],
    names: tuple[str, ...],
    report: Progress,
) -> ElasticModel:
    vit, source = answer.vit.eval(), dict(getattr(model, "pretrained_cfg", None) or {})
    made = list(dict.fromkeys((*answer.filled, vit.backbone.full)))
    members = made if answer.filled else distinct_members(answer.policy, budgets)
    if not members:
        raise ValueError(f"no submodel keeps to any of the budgets {list(budgets)}; give a larger one")
    by_size = own_parameters(vit, answer.module, members) if answer.module is not None else {}
    choices: dict[float, Submodel | None] = {budget: answer.policy(budget) for budget in budgets}
    table = FamilyRecord(
        members=ascending(vit.backbone, list(measured(vit, members, by_size, [images.whole], report))),
        budgets={budget: None if choice is None else str(choice) for budget, choice in choices.items()},
        validation=Validation(len(images.whole), images.sha256),
        data=config,
        classes=names,
        method=answer.report,
        source={**source, "architecture": source.get("architecture", type(model).__name__)},
    )
    return ElasticModel(vit, table, by_size)
