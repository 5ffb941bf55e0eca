"""SnapViT: one ranking of all hidden neurons and one of all heads, from gradients and a search; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import exp, log, nan, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from eavit.methods.answers import Elastic
from eavit.methods.fitting import digest_of
from eavit.methods.recipe import Card, Recipe
from eavit.methods.sizes import choosing_size
from eavit.model import cost
from eavit.model.importance import Scores, sorted_by
from eavit.model.submodel import Backbone, Submodel
from eavit.model.timm_layout import hidden_layers, query_layers
from eavit.model.vit import NestedViT, extract
from eavit.options import allowed, options_table, whole
from eavit.selection.selectors import EVALUATIONS
from eavit.space.sizes import ListSpace
from eavit.training.allocation import Phase, allocate
from eavit.training.checkpoint import Journal
from eavit.training.distributed import from_main
from eavit.training.prepare import IMPORTANCES, preparation_cost, prepare, start
from eavit.training.task import Spent, Split, Task

Multipliers = np.ndarray[Any, np.dtype[np.float64]]  # one for each layer's neurons, then one for each head

GLOBAL_CROPS = 2
GLOBAL_SCALE, LOCAL_SCALE, ASPECT = (0.25, 1.0), (0.05, 0.25), 4 / 3
GRADIENT_BATCH, EMBEDDING_BATCH = 16, 64
SEARCH_RATIOS = (0.15, 0.35, 0.55, 0.65)  # of hidden neurons that are pruned
HEAD_LAG = 0.15  # the ratio of pruned heads is smaller by this
LEAST_HEADS, LEAST_NEURONS = 0.2, 0.05  # of a layer's
FIRST, LAST, SIGMA = 1.2, 0.8, 1.0  # of the multipliers that the search starts from
SORTED = ("heads", "neurons")

CARD = Card(
    title="SnapViT",
    paper="Elastic ViTs from Pretrained Models without Retraining, NeurIPS 2025, arXiv 2510.17700",
    code="WalterSimoncini/SnapViT",
    elastic="heads and hidden neurons of each layer, each by one ranking over all layers; embedding and depth are full",
    step="none",
    distillation="none",
    selection="a pair of pruning ratios; ours takes the largest level that fits",
    parameters={
        "importance": ("none", "ours"),
        "images": (1000, "code"),
        "local_crops": (10, "code"),
        "global_crops": (GLOBAL_CROPS, "code"),
        "scales": (f"global {GLOBAL_SCALE}, local {LOCAL_SCALE}", "code"),
        "gradient_batch": (GRADIENT_BATCH, "code"),
        "loss": ("cross-entropy of L2-normalised embeddings, softmax without temperature, same view skipped", "code"),
        "score": (
            "mean squared gradient of the summed loss: of a neuron's fc1 weights, of a head's value weights",
            "code",
        ),
        "search.evaluations": (50, "code"),
        "search.images": (1000, "code"),
        "search.components": (192, "code"),
        "search_levels": ("neurons pruned .15 .35 .55 .65, heads 0 .2 .4 .5", "code"),
        "start": ("multipliers from 1.2 at the first layer to 0.8 at the last, standard deviation 1", "code"),
        "least": ("20 % of the heads and 5 % of the hidden neurons of each layer", "code"),
        "levels": (33, "ours"),
    },
    ours=(
        "the prepared backbone and the probed head are those of all methods; no label is looked at after the probe",
        "the line of the source's levels (head ratio = hidden ratio - .15) goes on to the least widths, in equal steps",
        "at least one head and one neuron of each layer stay; the source rounds least widths below one down to 0",
        "nothing is trained; with equal MACs gradients and search see as few images as the MACs pay for",
        "with importance rotated or variance, dropped units are replaced by their means, as in the other methods",
    ),
    deviations=(
        "CMA-ES (package cma) in place of xNES: same start, deviation and population (4 + 3 ln n), another update; 50 "
        "evaluations are two or three generations, and both take the best vector measured",
        "each view is a crop of its own; the source's code draws one crop for both global views of an image and one "
        "for all its local views (a transform of torchvision's v2 draws once for a batch)",
        "crops are taken from the images as the task resizes them, without the source's larger originals",
        "the teacher's embeddings are the student's of the same views, detached: nothing is trained, so both are equal",
        "embeddings in the backbone's precision, not in half; principal components at once, not incrementally",
        "of a gated MLP the weights of gates and values count alike (source: the gate's)",
        "no weight correction by SparseGPT (optional in the source)",
    ),
)


@dataclass(frozen=True, slots=True)
class MultiplierSearch:
    """Size of the search for multipliers of the scores, the table ``search`` of :func:`snapvit`."""

    evaluations: int = 50
    images: int = 1000
    components: int = 192

    def __post_init__(self) -> None:
        whole("search.evaluations", self.evaluations, 0)
        whole("search.images", self.images, 1)
        whole("search.components", self.components, 1)


def snapvit(
    importance: str = "none",
    images: int = 1000,
    local_crops: int = 10,
    search: Mapping[str, Any] = {},
    levels: int = 33,
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """SnapViT: one ranking of neurons and one of heads by the gradient of a self-supervised loss, no training.

    Multipliers that a search finds weigh layers and heads; the model is cut at any level.

    ``importance``: the common start; ``images``: that the gradient sees, each in two global and ``local_crops`` local
    views; ``levels``: sizes between the smallest and the full model.
    """
    allowed("importance", importance, IMPORTANCES)
    whole("images", images, 1)
    whole("local_crops", local_crops, 0)
    whole("levels", levels, 2)
    size, choose = options_table(MultiplierSearch, "search", search), choosing_size(select, nesting, evaluations)
    values = {f"search.{name}": getattr(size, name) for name in ("evaluations", "images", "components")}
    values |= {"importance": importance, "images": images, "local_crops": local_crops, "levels": levels}

    def cost_of_images(b: Backbone, count: int) -> float:
        return gradients_spent(b, count, local_crops).macs + search_spent(b, count, size.evaluations).macs

    def run(task: Task) -> Elastic:
        vit = start(task)
        b, most = vit.backbone, len(task.fit)
        phase, space = Phase("images", partial(cost_of_images, b)), pruning_levels(b, Scores.equal(b), levels)
        first, last = partial(preparation_cost, task, b, importance), partial(choose.cost, task, space)
        if (allocation := allocate(task, first, phase, last)).limit is not None:  # its steps are images
            most = min(most, max(1, allocation.steps[0]))
        vit = prepare(task, vit, importance)
        scores = gradient_scores(task, vit, min(images, most), local_crops)
        multipliers, findings = best_multipliers(task, vit, scores, replace(size, images=min(size.images, most)))
        scores = multiplied(scores, multipliers)
        vit, space = sorted_by(vit, scores, SORTED), pruning_levels(vit.backbone, scores, levels)
        return choose.answer(task, vit, space, {"weights": digest_of(vit), **findings})

    return Recipe("snapvit", run, CARD.with_values(values), lambda b, _: pruning_levels(b, Scores.equal(b), levels))


def gradient_scores(task: Task, vit: NestedViT, images: int, local_crops: int) -> Scores:
    """Mean squared gradient of each neuron's fc1 and each head's value weights, on the fit split without labels;
    charged. Channels score 0.
    """
    b, model, rng = vit.backbone, _headless(vit, vit.backbone.full), np.random.default_rng([task.seed, 13])
    seen = 0
    with task.ledger.phase("prepare"), torch.enable_grad():
        model.requires_grad_()
        for batch in _first_images(task.fit, images, GRADIENT_BATCH, vit):
            views = [random_crops(batch, GLOBAL_SCALE, rng) for _ in range(GLOBAL_CROPS)]
            views += [random_crops(batch, LOCAL_SCALE, rng) for _ in range(local_crops)]
            view_loss(model(torch.cat(views)).unflatten(0, (len(views), -1))).backward()
            task.progress("gradients", seen := seen + len(batch), images)
        task.ledger.add(**gradients_spent(b, images, local_crops).amounts)
    heads, neurons = [], []
    for block in model.blocks:
        rows = torch.cat([layer.weight.grad for layer in query_layers(block.attn)]).double().square()
        heads.append(rows.unflatten(0, (3, b.heads, -1))[2].mean((1, 2)))
        rows = torch.cat([layer.weight.grad for layer in hidden_layers(block.mlp)]).double().square()
        neurons.append(rows.unflatten(0, (-1, b.mlp)).mean((0, 2)))
    return Scores(heads[0].new_zeros(b.embed), torch.stack(heads), torch.stack(neurons))


def gradients_spent(backbone: Backbone, images: int, local_crops: int) -> Spent:
    """Compute of the gradients: forward and backward of the full model on all views."""
    full = float(cost.macs(backbone, backbone.full)) * images * (GLOBAL_CROPS + local_crops)
    return Spent(full, 2 * full, images)


def random_crops(images: Tensor, scale: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """A random crop of each image, resized to the image's size; ``scale``: least and most of its area."""
    high, wide = images.shape[-2:]

    def crop(image: Tensor) -> Tensor:
        area, ratio = rng.uniform(*scale) * high * wide, exp(rng.uniform(-log(ASPECT), log(ASPECT)))
        h, w = (
            min(most, max(1, round(side))) for most, side in ((high, sqrt(area / ratio)), (wide, sqrt(area * ratio)))
        )
        top, left = int(rng.integers(high - h + 1)), int(rng.integers(wide - w + 1))
        return F.interpolate(image[None, :, top : top + h, left : left + w], (high, wide), mode="bilinear")

    return torch.cat([crop(image) for image in images])


def view_loss(embeddings: Tensor) -> Tensor:
    """Cross-entropy of each view to each of the first two (targets, no gradient), itself left out: sum over pairs, mean
    over images. ``embeddings`` (views, images, channels).
    """
    unit = F.normalize(embeddings, dim=-1)
    target, student = unit[:GLOBAL_CROPS].detach().softmax(-1), unit.log_softmax(-1)
    pairs = [-(view * other).sum(-1) for i, view in enumerate(target) for j, other in enumerate(student) if i != j]
    return torch.stack(pairs).sum(0).mean()


def multiplied(scores: Scores, multipliers: Multipliers) -> Scores:
    """Scores times the absolute multipliers: of each layer's neurons, and of each head."""
    depth, heads = scores.heads.shape
    factors = torch.from_numpy(np.abs(multipliers)).to(scores.heads)
    layers, each = factors[:depth, None], factors[depth:].view(depth, heads)
    return Scores(scores.channels, scores.heads * each, scores.neurons * layers)


def best_multipliers(
    task: Task, vit: NestedViT, scores: Scores, size: MultiplierSearch
) -> tuple[Multipliers, dict[str, Any]]:
    """The multipliers whose pruned models agree best with the full one on the fit split, and findings; charged. Each
    value is written down, so that a killed search measures only what it had not.
    """
    b = vit.backbone
    first = np.linspace(FIRST, LAST, b.depth)
    first = np.concatenate([first, first.repeat(b.heads)])
    if not size.evaluations:
        return first, {}
    journal = Journal(task.workdir / "multipliers.jsonl")
    with task.ledger.phase("search"):
        images = partial(_first_images, task.fit, size.images, EMBEDDING_BATCH, vit)
        agreement = agreement_on(vit, images, size.components)

        def fitness(place: int, drawn: Multipliers) -> float:
            value = from_main(lambda: journal.get(str(place), lambda: agreement(multiplied(scores, drawn))))
            task.progress("multipliers", place + 1, size.evaluations)
            return value

        best, value = evolved(fitness, first, size.evaluations, task.seed)
        task.ledger.add(**search_spent(b, size.images, size.evaluations).amounts)
    return best, {"agreement": round(value, 6), "search_images": size.images}


def search_spent(backbone: Backbone, images: int, evaluations: int) -> Spent:
    """Compute of the search: the full model once, every pruned level at each evaluation. The levels' MACs are known:
    units of all layers cost the same, so only their number counts.
    """
    levels = [pruning_level(backbone, Scores.equal(backbone), ratio) for ratio in SEARCH_RATIOS]
    full = cost.macs(backbone, backbone.full) if evaluations else 0
    macs = full + evaluations * sum(cost.macs(backbone, level) for level in levels)
    return Spent(float(macs * images), images=images)


def evolved(
    fitness: Callable[[int, Multipliers], float], first: Multipliers, evaluations: int, seed: int
) -> tuple[Multipliers, float]:
    """The fittest vector that CMA-ES draws from ``first`` on in so many evaluations, each numbered; and its fitness."""
    import cma  # late: it takes a while, and a check of a suite needs none

    rng = np.random.default_rng([seed, 14])
    tried: list[tuple[Multipliers, float]] = []
    # Not numpy's global generator, which cma draws from and seeds otherwise.
    options = {"seed": nan, "randn": lambda *shape: rng.standard_normal(shape), "verbose": -9}
    strategy = cma.CMAEvolutionStrategy(first, SIGMA, options)
    while len(tried) < evaluations:
        drawn = strategy.ask()[: evaluations - len(tried)]
        values = [fitness(place, vector) for place, vector in enumerate(drawn, len(tried))]
        tried += zip(drawn, values, strict=True)
        if len(tried) < evaluations:
            strategy.tell(drawn, [-value for value in values])
    return max(tried, key=lambda pair: pair[1])


def agreement_on(vit: NestedViT, images: Callable[[], Iterator[Tensor]], components: int) -> Callable[[Scores], float]:
    """Mean cosine similarity of the search levels' embeddings to the full model's on the same images, both projected on
    the principal components of the latter (source: not where there are as many components as channels, or more).
    """

    @torch.inference_mode()
    def embeddings(vit: NestedViT, submodel: Submodel) -> Tensor:
        model = _headless(vit, submodel)
        return torch.cat([model(batch) for batch in images()])

    full = embeddings(vit, vit.backbone.full)
    project = projection(full, components)

    def agreement(scores: Scores) -> float:
        pruned = sorted_by(vit, scores, SORTED)
        levels = (pruning_level(vit.backbone, scores, ratio) for ratio in SEARCH_RATIOS)
        with torch.inference_mode():
            pairs = ((project(embeddings(pruned, level)), project(full)) for level in levels)
            return float(torch.stack([F.cosine_similarity(*pair, dim=-1).mean() for pair in pairs]).mean())

    return agreement


def projection(features: Tensor, components: int) -> Callable[[Tensor], Tensor]:
    """The map to the first principal components of ``features`` (images, channels), where these have more channels."""
    if components >= features.shape[1]:
        return lambda x: x
    mean = features.mean(0)
    axes = torch.linalg.svd(features - mean, full_matrices=False).Vh[:components].mT
    return lambda x: (x - mean) @ axes


def pruning_levels(backbone: Backbone, scores: Scores, count: int) -> ListSpace:
    """Space of at most ``count`` sizes from the least widths to the full model, each inside the next; of weights sorted
    by these scores.
    """
    ratios = np.linspace(0, 1 - LEAST_NEURONS, count)
    return ListSpace.of(backbone, [pruning_level(backbone, scores, float(ratio)) for ratio in ratios])


def pruning_level(backbone: Backbone, scores: Scores, ratio: float) -> Submodel:
    """Widths that are left where the least of all neurons are pruned, a fraction ``ratio`` of them, and of all heads a
    fraction smaller by 0.15.
    """
    heads = _widths_left(scores.heads, max(0.0, ratio - HEAD_LAG), LEAST_HEADS)
    return Submodel(backbone.embed, heads, _widths_left(scores.neurons, ratio, LEAST_NEURONS))


def _widths_left(scores: Tensor, ratio: float, least: float) -> tuple[int, ...]:
    """Units that each layer keeps by ``scores`` (layers, units); of equal ones those of earlier layers."""
    layers, units = scores.shape
    protected = max(1, int(units * least))
    ranked = scores.sort(dim=-1, descending=True).values
    ranked[:, :protected] = torch.inf
    pruned = min(int(layers * units * ratio + 1e-9), layers * (units - protected))
    kept = ranked.flatten().argsort(descending=True, stable=True)[: layers * units - pruned]
    return tuple(torch.bincount(kept // units, minlength=layers).tolist())


def _first_images(split: Split, count: int, batch: int, vit: NestedViT) -> Iterator[Tensor]:
    """The first ``count`` images of a split, on the device of the weights."""
    device = next(vit.parameters()).device
    for images, _ in split.batches(batch, seed=None):
        if count <= 0:
            return
        yield images[:count].to(device)
        count -= len(images)


def _headless(vit: NestedViT, submodel: Submodel) -> Any:
    """The plain model of a submodel that ends with its embedding."""
    model: Any = extract(vit, submodel).eval()
    model.reset_classifier(0)
    return model
