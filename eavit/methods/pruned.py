"""Prune to a budget, then fine-tune: torch-pruning's one-shot Taylor pruning, one run for each budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from math import floor
from typing import Any

import torch
from torch import Tensor, nn

from eavit.extras import needed
from eavit.methods.answers import Retrained
from eavit.methods.fitting import digest_of
from eavit.methods.recipe import Card, Recipe
from eavit.methods.retraining import Sized, phases_alone, train_alone
from eavit.model import cost
from eavit.model.inputs import images_and_labels
from eavit.model.objective import label_loss
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT, extract
from eavit.options import allowed, whole
from eavit.training.allocation import allocate
from eavit.training.checkpoint import load_tensors, save_tensors
from eavit.training.distributed import is_main
from eavit.training.execution import PLAIN, Execution
from eavit.training.prepare import preparation_cost, prepare, start
from eavit.training.task import Spent, Split, Task

BATCH = 64  # of the gradients that Taylor scores need
MOST = 0.95  # of a width that is pruned at most
CRITERIA: dict[str, Callable[[Any], Any]] = {  # by torch-pruning
    "taylor": lambda tp: tp.importance.GroupTaylorImportance(),
    "l1": lambda tp: tp.importance.GroupMagnitudeImportance(p=1),
    "l2": lambda tp: tp.importance.GroupMagnitudeImportance(p=2),
}
UNITS = ("all", "inner")


def pruned(importance: str = "taylor", units: str = "all", images: int = 3200, round_to: int = 2) -> Recipe:
    """One-shot structural pruning by torch-pruning to each budget, then fine-tuning: one run a budget.

    ``units``: all prunes channels, heads and neurons by one ratio, inner leaves the channels; ``images`` are those that
    the Taylor scores see; channels and neurons are kept in multiples of ``round_to``.
    """
    allowed("importance", importance, CRITERIA)
    allowed("units", units, UNITS)
    whole("images", images, 1)
    whole("round_to", round_to, 1)
    recipe = _Pruned(importance, units == "all", images, round_to)
    card = replace(CARD, parameters={**CARD.parameters, **recipe.parameters})
    return Recipe("pruned", recipe.run, card, accept=_prunable)


@dataclass(frozen=True, slots=True)
class _Pruned:
    importance: str
    channels: bool
    images: int
    round_to: int

    @property
    def parameters(self) -> dict[str, Any]:
        units = "channels, heads and hidden neurons" if self.channels else "heads and hidden neurons"
        return {
            "importance": (self.importance, "code"),
            "units": (units, "code"),
            "images": (self.images, "code"),
            "round_to": (self.round_to, "code"),
        }

    def run(self, task: Task) -> Retrained[Sized]:
        vit = _prunable(start(task))
        shapes = {b: widths_at(vit.backbone, b, self.round_to, self.channels) for b in task.budgets}
        choices = {b: None if s is None else Sized(f"pruned-{b:.12g}", s) for b, s in shapes.items()}
        reachable = [choice for choice in choices.values() if choice is not None]
        spent = self._scores(task, vit.backbone) if reachable else Spent()
        allocation = allocate(
            task,
            partial(preparation_cost, task, vit.backbone, "none"),
            lambda: spent.macs,
            *phases_alone(task, [(b := backbone_of(vit.backbone, one.widths), b.full) for one in reachable]),
        )
        vit = prepare(task, vit, "none")
        with task.ledger.phase("prune"):
            cut = dict(zip(reachable, self._cut_all(task, vit, reachable), strict=True))
            task.ledger.add(**spent.amounts)
        modules = train_alone(allocation, ((one, vit, vit.backbone.full) for one, vit in cut.items()))
        return Retrained(choices, modules, {"weights": {str(c): digest_of(one) for c, one in cut.items()}})

    def _scores(self, task: Task, backbone: Backbone) -> Spent:
        """Compute of the gradients that the scores need."""
        images = min(self.images, len(task.fit)) if self.importance == "taylor" else 0
        full = float(cost.macs(backbone, backbone.full)) * images
        return Spent(full, 2 * full, images)

    def _cut_all(self, task: Task, vit: NestedViT, reachable: list[Sized]) -> Iterator[NestedViT]:
        """The pruned starts, each kept with its widths in the notes: a killed cell does not prune again."""
        execution, taylor = Execution.of(task.schedule), self.importance == "taylor"
        gradients = cache(lambda: gradients_of(vit, self._batches(task.fit), execution) if taylor else {})
        for done, choice in enumerate(reachable, 1):
            file = task.workdir / f"{choice.name}.safetensors"
            note = {"widths": str(choice.widths), "importance": self.importance, "images": str(self.images)}
            state, previous = load_tensors(file) if file.exists() else ({}, {})
            if previous != note:
                state = prune(vit, gradients(), choice.widths, CRITERIA[self.importance])
                if is_main():
                    save_tensors(file, state, note)
            task.progress("prune", done, len(reachable))
            yield narrowed(vit, choice.widths, state)

    def _batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        left = self.images
        for images, labels in islice(split.batches(BATCH), -(-self.images // BATCH)):
            yield images[:left], labels[:left]
            left -= len(images)


def widths_at(backbone: Backbone, budget: float, round_to: int = 2, channels: bool = True) -> Submodel | None:
    """Widths of the smallest common pruning ratio whose counted MACs fit ``budget``, found by bisection; the head count
    follows from the ratio, and what its rounding leaves of the budget goes to the hidden neurons. None: out of reach.
    """
    limit = budget * cost.macs(backbone, backbone.full)

    def fits(shape: Submodel) -> bool:
        return cost.macs(backbone, shape) <= limit

    def at(ratio: float) -> Submodel:
        embed = _kept(backbone.embed, ratio, round_to) if channels else backbone.embed
        heads = max(1, floor(backbone.heads * (1 - ratio) + 0.5))
        return _uniform(backbone, embed, heads, _kept(backbone.mlp, ratio, round_to))

    if fits(at(0)):
        return at(0)
    low, high = 0.0, MOST
    if not fits(at(high)):
        return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(at(middle)) else (middle, high)
    shape = at(high)
    hidden = range(shape.mlp[0], backbone.mlp + 1, round_to)
    return [s for m in hidden if fits(s := _uniform(backbone, shape.embed, shape.heads[0], m))][-1]


def _kept(width: int, ratio: float, round_to: int) -> int:
    """Units left of ``width``, in multiples of ``round_to`` unless nothing is pruned."""
    left = width * (1 - ratio)
    return width if ratio == 0 else min(width, max(round_to, floor(left / round_to) * round_to))


def _uniform(backbone: Backbone, embed: int, heads: int, hidden: int) -> Submodel:
    return Submodel(embed, (heads,) * backbone.depth, (hidden,) * backbone.depth)


def _prunable(vit: NestedViT) -> NestedViT:
    if vit.backbone.qk_norm:
        raise ValueError(
            "method pruned: this backbone has norms on queries and keys (one for all heads), which torch-pruning takes "
            "for norms over all heads' values; it cannot prune heads here"
        )
    b = vit.backbone
    if type(vit) is not NestedViT or b.gated_mlp or b.attn_norm or b.mlp_norm:
        raise ValueError(
            "method pruned: this backbone is not a VisionTransformer with plain MLPs and no norm over heads or "
            "neurons, the only one whose units torch-pruning is known to cut rightly"
        )
    return vit


def _plain(vit: NestedViT) -> Any:
    return extract(vit, vit.backbone.full).eval()


def gradients_of(
    vit: NestedViT, batches: Iterable[tuple[Tensor, Tensor]], execution: Execution = PLAIN
) -> dict[str, Tensor]:
    """The loss's gradients, summed over the batches, by timm's keys; FloatingPointError where one is not finite."""
    model, exact = _plain(vit), execution.for_gradients
    with exact.autocast(model):
        for whole, labels in batches:
            for some, theirs in images_and_labels(vit, [(whole, labels)], execution.micro_batch):
                (label_loss(model(some), theirs) * (len(some) / len(whole))).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    bad = [name for name, value in gradients.items() if not value.isfinite().all()]
    if bad:
        raise FloatingPointError(f"gradients of {', '.join(bad[:5])} are not finite; check weights and images")
    return gradients


def torch_pruning() -> Any:
    """The package torch_pruning; MissingExtraError where it is not installed."""
    return needed("torch_pruning", "pruning", "method pruned")


def prune(
    vit: NestedViT, gradients: Mapping[str, Tensor], widths: Submodel, criterion: Callable[[Any], Any]
) -> dict[str, Tensor]:
    """The state of ``vit`` pruned to uniform widths. Which units go says ``criterion``; how many, ``widths``: every
    ratio below is derived from them.
    """
    tp, b, stem, model = torch_pruning(), vit.backbone, vit.patch_embed, _plain(vit)
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone() if name in gradients else None
    heads = widths.heads[0]
    by_layer = {model.patch_embed.proj: _ratio(b.embed, widths.embed)}
    by_layer |= {block.mlp.fc1: _ratio(b.mlp, widths.mlp[0]) for block in model.blocks}
    pruner = tp.pruner.BasePruner(
        model,
        torch.zeros(1, stem.proj.in_channels, *stem.img_size).to(next(model.parameters())),
        importance=criterion(tp),
        pruning_ratio=0.5,  # of what no line below names: attention, where whole heads go and no dimension of one
        pruning_ratio_dict=by_layer,
        head_pruning_ratio=max(0.0, (b.heads - heads - 0.5) / b.heads),  # rounded up by torch-pruning
        prune_num_heads=True,
        prune_head_dims=False,
        num_heads={block.attn.qkv: b.heads for block in model.blocks},
        in_channel_groups={},  # not its defaults, which all pruners of a process share
        out_channel_groups={},
        ignored_layers=[model.head],
        unwrapped_parameters=[(p, p.ndim - 1) for name, p in model.named_parameters() if _is_bare(name)],
    )
    gone: dict[Any, list[int]] = {}
    for group in pruner.step(interactive=True):
        gone |= {dep.target.module: idxs for dep, idxs in group if isinstance(dep.target.module, nn.LayerNorm)}
        group.prune()
    return {key: value.detach().clone() for key, value in model.state_dict().items()} | _norms(vit, model, gone)


def _norms(vit: NestedViT, model: Any, gone: Mapping[Any, list[int]]) -> dict[str, Tensor]:
    """The LayerNorms' parameters with their kept channels in order. torch-pruning 1.6 sorts a copy of them and leaves
    them in the order of a Python set, which is another than everything else's as soon as many channels are gone.
    """
    full = vit.state_dict()
    cut: dict[str, Tensor] = {}
    for name, norm in model.named_modules():
        if norm in gone:
            channels = [i for i in range(vit.backbone.embed) if i not in set(gone[norm])]
            cut |= {key: full[key][channels] for key in (f"{name}.weight", f"{name}.bias")}
    return cut


def _ratio(width: int, kept: int) -> float:
    """A ratio that torch-pruning, which rounds what is left down, turns into exactly ``kept`` units."""
    return 0.0 if kept == width else 1 - (kept + 0.5) / width


def _is_bare(name: str) -> bool:
    """Parameters over channels that are no part of a layer that torch-pruning knows."""
    return name.endswith(("cls_token", "reg_token", "pos_embed", ".gamma"))


def narrowed(vit: NestedViT, widths: Submodel, state: dict[str, Tensor]) -> NestedViT:
    """A nested ViT whose full widths are ``widths``; RuntimeError, naming the keys, where the state does not fit."""
    plain = extract(vit, widths)
    plain.load_state_dict(state, strict=True)
    nested: NestedViT = NestedViT.from_timm(plain).eval()
    return nested


def backbone_of(backbone: Backbone, widths: Submodel) -> Backbone:
    """The backbone whose full widths are these uniform ``widths``."""
    return replace(backbone, embed=widths.embed, heads=widths.heads[0], mlp=widths.mlp[0])


CARD = Card(
    title="Prune to the budget, then fine-tune",
    paper="DepGraph: Towards Any Structural Pruning, CVPR 2023, arXiv 2301.12900; scores: Importance Estimation for "
    "Neural Network Pruning, CVPR 2019",
    code="VainF/Torch-Pruning",
    elastic="nothing: one pruned model for each budget, weights are not shared",
    step="the one pruned model, 1",
    distillation="none (optional in the source)",
    selection="the pruning ratio whose counted MACs fit the budget",
    parameters={
        "ratio": ("one for channels, heads and neurons of every layer, found by bisection on counted MACs", "ours"),
        "head ratio": ("derived from the one ratio, rounded to whole heads", "ours"),
        "ranking": ("within each layer, channels once for the whole model", "code"),
        "rounds": ("one shot", "code"),
        "largest ratio": (MOST, "ours"),
        "training": ("the suite's whole schedule for each budget; with equal MACs an equal part for each", "ours"),
    },
    ours=(
        "the search for the ratio, and that what whole heads leave of a budget goes to hidden neurons",
        "pruning starts from the common probed head; torch-pruning's own scores decide, not the common order",
        "the gradients for the scores are charged once",
    ),
    deviations=(
        "heads leave whole (the source's default cuts dimensions inside each head), so that head_dim stays 64",
        "the source's timm example fixes the head ratio at 0.5 whatever is asked; ours follows the budget",
        "kept channels of a LayerNorm stay in order; torch-pruning 1.6 mixes them up where many are pruned",
        "a backbone with norms on queries and keys is refused: torch-pruning cuts such norms as if they had all "
        "heads; so are EVA, DINOv3 and distilled DeiT",
        "fine-tuning is the suite's schedule, not 300 epochs with mixup, CutMix and RandAugment: one schedule for all",
    ),
)
