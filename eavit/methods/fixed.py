"""References: models of a fixed shape, each trained alone. Nothing is shared between budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from eavit.methods.answers import Retrained
from eavit.methods.recipe import Card, Recipe
from eavit.methods.retraining import Sized, distinct_shapes, phases_alone, retrain, train_alone
from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.options import allowed
from eavit.space.product import uniform_shape
from eavit.training.allocation import allocate
from eavit.training.prepare import IMPORTANCES, preparation_cost, prepare, start
from eavit.training.task import Task
from eavit.weights import known_tag, random_start, timm_vit

AUGREG = (  # one recipe of pretraining, three sizes: 1.25, 4.60 and 17.56 GMACs at 224 pixels
    "vit_tiny_patch16_224.augreg_in21k",
    "vit_small_patch16_224.augreg_in21k",
    "vit_base_patch16_224.augreg_in21k",
)
_REFERENCE = Card(
    title="",
    paper="none: a reference of this project",
    code="none public",
    elastic="nothing: one model of one shape for each budget, weights are not shared",
    step="the one model, 1",
    distillation="none",
    selection="",
    parameters={
        "training": ("the suite's whole schedule for each model; with equal MACs an equal part for each", "ours"),
        "loss": ("cross-entropy, smoothing and stochastic depth as the schedule says", "ours"),
    },
    ours=("everything: no paper fixes these references",),
)
_SLICED = {**_REFERENCE.parameters, "start": ("sliced from the sorted pretrained weights", "ours")}
_CHOSEN = "the shape that the method it comes `after` chose for this budget"


def fixed_same_shape(importance: str = "taylor") -> Recipe:
    """The shape another method chose (``after``), sliced from the prepared weights, trained alone: one run a budget."""
    allowed("importance", importance, IMPORTANCES)

    def run(task: Task) -> Retrained[Submodel]:
        return _prepared_and_retrained(task, start(task), _given("fixed_same_shape", task), importance)

    card = replace(
        _REFERENCE,
        title="The same shape, trained alone",
        selection=_CHOSEN,
        parameters=_SLICED,
        ours=(
            *_REFERENCE.ours,
            "what it took to find the shape is not charged: the difference to the method is the supernet's gap",
        ),
    )
    return Recipe("fixed_same_shape", run, card, after=(1, 1))


def fixed_uniform(importance: str = "taylor") -> Recipe:
    """The uniform shape of the same MACs, sliced from the prepared weights, trained alone: one run a budget.

    At budget 1 this is the plain fine-tune of the full backbone.
    """
    allowed("importance", importance, IMPORTANCES)

    def run(task: Task) -> Retrained[Submodel]:
        vit = start(task)
        shapes = {b: uniform_shape(vit.backbone, b) for b in task.budgets}
        return _prepared_and_retrained(task, vit, shapes, importance)

    card = replace(
        _REFERENCE,
        title="The uniform shape, trained alone",
        selection="the uniform full-depth shape that fills the budget, hidden/embed ratio next to the backbone's",
        parameters=_SLICED,
    )
    return Recipe("fixed_uniform", run, card)


def fixed_random_start() -> Recipe:
    """The shape another method chose (``after``), from random weights, trained alone: one run a budget."""

    def run(task: Task) -> Retrained[Submodel]:
        shapes = _given("fixed_random_start", task)
        with task.ledger.phase("prepare"):
            vit = NestedViT.from_timm(random_start(task.backbone(), task.seed)).eval()
        return retrain(
            allocate(task, *phases_alone(task, [(vit.backbone, s) for s in distinct_shapes(shapes)])), vit, shapes
        )

    card = replace(
        _REFERENCE,
        title="The same shape from random weights",
        selection=_CHOSEN,
        parameters={
            **_REFERENCE.parameters,
            "start": ("timm's own initialisation, head included: truncated normal of deviation 0.02", "ours"),
        },
        ours=(
            *_REFERENCE.ours,
            "no probe: the head starts as random as the rest, and nothing is charged before training",
            "the same schedule as all others, which is short for random weights: what pretraining is worth in it",
            "shapes are cut from one random full model: no value's deviation depends on a width that is cut",
        ),
    )
    return Recipe("fixed_random_start", run, card, after=(1, 1))


def own_pretraining(
    models: Sequence[str] = AUGREG, files: Mapping[str, str] | None = None, build: Mapping[str, Any] | None = None
) -> Recipe:
    """Models of several sizes, each with a pretraining of its own, fine-tuned; the largest that fits answers a budget.

    ``models`` are timm tags, ``files`` local safetensors files by tag (else weights are downloaded), ``build`` goes to
    ``timm.create_model`` for all. Images are taken as the suite's backbone takes them.
    """
    tags, paths, options = tuple(models), dict(files or {}), dict(build or {})
    if not tags or len(set(tags)) != len(tags):
        raise ValueError(f"option models={list(tags)}: must be one or more different timm tags")
    for tag in tags:
        known_tag(tag, "option models")
    for tag in paths:
        allowed("files", tag, tags)

    def fresh(tag: str, vit: NestedViT) -> nn.Module:
        taken = {"img_size": vit.patch_embed.img_size, "in_chans": vit.in_chans}
        model: nn.Module = timm_vit(vit.backbone.num_classes, tag, paths.get(tag), **(taken | options))
        return model

    return Recipe("own_pretraining", lambda task: _largest_that_fit(task, tags, fresh), _OWN)


def _largest_that_fit(
    task: Task, tags: Sequence[str], fresh: Callable[[str, NestedViT], nn.Module]
) -> Retrained[Sized]:
    reference = start(task)
    limit = cost.macs(reference.backbone, reference.backbone.full)
    vits = {tag: NestedViT.from_timm(fresh(tag, reference)).eval() for tag in tags}
    sizes = {tag: Sized(tag, vit.backbone.full) for tag, vit in vits.items()}
    macs = {tag: cost.macs(vit.backbone, vit.backbone.full) for tag, vit in vits.items()}
    best = {b: max((t for t in tags if macs[t] <= b * limit), key=macs.__getitem__, default=None) for b in task.budgets}
    used = [tag for tag in tags if tag in best.values()]
    allocation = allocate(
        task,
        *(partial(preparation_cost, task, vits[tag].backbone, "none") for tag in used),
        *phases_alone(task, [(vits[tag].backbone, sizes[tag].widths) for tag in used]),
    )
    ready = [(sizes[tag], prepare(task, vits[tag], "none"), sizes[tag].widths) for tag in used]
    choices = {b: None if tag is None else sizes[tag] for b, tag in best.items()}
    return Retrained(choices, train_alone(allocation, ready), {"macs": macs, "trained": used})


_OWN = replace(
    _REFERENCE,
    title="Sizes with a pretraining of their own",
    paper="How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers, TMLR 2022, "
    "arXiv 2106.10270 (the weights)",
    code="google-research/vision_transformer (the weights); huggingface/pytorch-image-models (as they are loaded)",
    selection="the model with the most MACs that fits the budget",
    parameters={
        "models": (list(AUGREG), "ours"),
        "GMACs at 224 pixels": ([1.25, 4.60, 17.56], "code"),
        **_REFERENCE.parameters,
    },
    ours=(
        "a model that answers no budget is not trained and costs nothing",
        "the head starts as a linear probe of the fit split, as in every other method",
    ),
    deviations=(
        "each size was pretrained by others, which no ledger here counts: a reference line, never ranked as a rival",
    ),
)


def _prepared_and_retrained(
    task: Task, vit: NestedViT, shapes: Mapping[float, Submodel | None], importance: str
) -> Retrained[Submodel]:
    allocation = allocate(
        task,
        partial(preparation_cost, task, vit.backbone, importance),
        *phases_alone(task, [(vit.backbone, shape) for shape in distinct_shapes(shapes)]),
    )
    return retrain(allocation, prepare(task, vit, importance), shapes)


def _given(method: str, task: Task) -> dict[float, Submodel | None]:
    if len(task.given) != 1:
        raise ValueError(f"{method} comes after exactly one method, `after` gives {sorted(task.given) or 'none'}")
    chosen = next(iter(task.given.values()))
    return {b: Submodel.parse(chosen[b]) if b in chosen else None for b in task.budgets}
