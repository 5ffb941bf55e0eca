"""Each switch brings back what the published code did, alone; without it nothing of the kind happens."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from eavit.methods.choosing import SelectOptions
from eavit.methods.ea_vit import ea_vit, method_of
from eavit.methods.published import (
    DEFECTS,
    PUBLISHED,
    ea_vit_published,
    renewed,
    route_silently,
    train_batches,
)
from eavit.methods.recipe import Recipe
from eavit.model import cost, nested
from eavit.model.gates import Gates, Masking
from eavit.model.submodel import Submodel
from eavit.model.vit import extract
from eavit.selection.front import Candidate
from eavit.selection.router import Router, Routing, route_frozen, route_jointly
from eavit.selection.search import find_front
from eavit.space.product import ProductSpace
from eavit.training.prepare import prepare
from eavit.training.task import Spent
from eavit.training.train import Fit, schedule_of
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, tiny

SEARCH = {"search": {"population": 6, "generations": 1}}
SHORT = SCHEDULE | {"epochs": 2.0}


def images(count=5):
    return next(Blobs(count, 5).batches(count))[0].double()


def double():
    vit = tiny().double()
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if "bias" in name or "norm" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return vit.eval()


def gates_of(vit, submodel, **masking):
    gates = Gates.of(submodel, vit.backbone, next(vit.parameters()))
    return replace(gates, masking=Masking(**masking))


def test_norms_over_all_channels_are_those_of_the_published_training_code():
    """The residual stream keeps all channels, each norm runs over all of them, and its output alone is masked."""
    vit, x = double(), images()
    b = vit.backbone
    submodel = Submodel(6, (b.heads,) * 3, (b.mlp,) * 3)
    whole = extract(vit, b.full)
    mask = (torch.arange(b.embed) < 6).double()

    def norm(layer, tokens):
        return F.layer_norm(tokens, (b.embed,), layer.weight, layer.bias, layer.eps) * mask

    tokens = whole._pos_embed(whole.patch_embed(x))
    for block in whole.blocks:
        tokens = tokens + block.attn(norm(block.norm1, tokens))
        tokens = tokens + block.mlp(norm(block.norm2, tokens))
    published = whole.head(norm(whole.norm, tokens)[:, 0])
    sliced = vit(x, submodel)
    assert torch.allclose(vit(x, gates_of(vit, submodel, norm_over="all")), published)
    assert torch.allclose(vit(x, gates_of(vit, submodel)), sliced)
    assert not torch.allclose(published, sliced, atol=1e-2)
    assert torch.allclose(vit(x, gates_of(vit, b.full, norm_over="all")), vit(x))


def test_a_skipped_mlp_adds_its_bias_and_a_skipped_attention_does_not():
    vit, x = double(), images()
    b = vit.backbone
    no_mlp = Submodel(b.embed, (b.heads,) * 3, (b.mlp, 0, b.mlp))
    no_attention = Submodel(b.embed, (b.heads, 0, b.heads), (b.mlp,) * 3)
    whole = extract(vit, b.full)
    whole.blocks[1].mlp.fc2.weight.data.zero_()
    with_bias = whole(x)
    assert torch.allclose(vit(x, gates_of(vit, no_mlp, skipped_bias=True)), with_bias)
    assert torch.allclose(vit(x, gates_of(vit, no_mlp)), vit(x, no_mlp))
    assert not torch.allclose(with_bias, vit(x, no_mlp), atol=1e-2)
    assert torch.allclose(vit(x, gates_of(vit, no_attention, skipped_bias=True)), vit(x, no_attention))


def altered(**defects):
    """EA-ViT as a value, with these defects."""
    method = method_of("taylor", {}, {}, SEARCH["search"], SelectOptions(), {})
    for name, value in defects.items():
        method = DEFECTS[name](method, value)
    return method


def test_masking_is_handed_to_stage_two_alone(tmp_path):
    """What stage 2 runs carries the masking; nothing stays on the modules."""
    seen = []

    class Watched(nested.NestedBlock):
        def forward(self, *args, **kwargs):
            seen.append(args[5])
            return super().forward(*args, **kwargs)

    def watched(task, vit, importance):
        vit = prepare(task, vit, importance)
        for block in vit.blocks:
            block.__class__ = Watched
        return vit

    method = replace(altered(norm_over="all", skipped_bias=True), prepare=watched)
    Recipe("x", method.run).adapt(TinyTask(tmp_path, schedule=SHORT))
    assert set(seen) == {Masking(), Masking("all", True)}
    assert seen[0] == seen[-1] == Masking()


def test_norm_eps_is_that_of_every_norm_from_the_start(tmp_path):
    task = TinyTask(tmp_path)
    changed = altered(norm_eps=1e-5).start(task)
    assert {m.eps for m in changed.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}
    own = altered().start(task)
    assert own.norm.eps == 1e-6
    assert all(torch.equal(value, own.state_dict()[key]) for key, value in changed.state_dict().items())
    assert changed.norm.eps == prepare(task, changed).norm.eps == 1e-5


def test_fresh_norms_forget_what_was_pretrained_and_the_published_zeros_would_never_learn():
    vit = double().float()
    before = {key: value.clone() for key, value in vit.state_dict().items()}
    assert altered(fresh_norms=False) == altered()
    fresh = renewed(vit).state_dict()
    for key, value in fresh.items():
        wanted = {"weight": 1.0, "bias": 0.0}[key.rpartition(".")[2]] if "norm" in key else 0.0
        assert (value == wanted).all() if "norm" in key or "head" in key else torch.equal(value, before[key])
    for norm in (m for m in renewed(vit).modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.weight.data.zero_()
    x, y = next(Blobs(12).batches(12))
    F.cross_entropy(vit(x), y).backward()
    alive = [name for name, p in vit.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert alive == ["head.bias"]


def test_fitness_by_a_train_batch_sees_no_held_out_image(tmp_path):
    class Closed(Blobs):
        def batches(self, *args, **kwargs):
            raise AssertionError("a held-out image was asked for")

    task = TinyTask(tmp_path, select_a=Closed(), select_b=Closed())
    vit = tiny()
    space = ProductSpace.eavit(vit.backbone, 0.5)
    search = altered(fitness="train_batch").search
    front, optimism = search.run(task, vit, space)
    assert optimism == 0 and {round(p.fitness * 16, 6) % 1 for p in front.points} == {0}  # 16 images, no second look
    assert task.ledger.images == 16 * front.evaluations
    seen = train_batches(task)
    one, two, again = (next(seen(s).batches(512))[0] for s in (space.smallest, space.largest, space.smallest))
    assert torch.equal(one, again) and not torch.equal(one, two)
    trained = torch.cat([x for x, _ in Blobs().batches(96)])
    assert all((trained == image).flatten(1).all(1).any() for image in one)
    with pytest.raises(AssertionError, match="held-out"):
        altered().search.run(TinyTask(tmp_path, select_a=Closed()), vit, space, "other")


def test_five_places_for_quotas_of_a_hundred_leave_the_router_small_references_only():
    """And what is handed on is the last generation, not the best of all."""
    backbone = tiny(depth=6, embed_dim=24, num_heads=6).backbone
    space = ProductSpace.eavit(backbone)

    def fitness(submodel):
        return cost.share(backbone, submodel) ** 0.5

    def largest_share(**options):
        return max(p.share for p in find_front(space, fitness, generations=40, seed=1, **options).cover)

    assert largest_share(population=5, quotas="paper") < 0.35
    assert largest_share(population=5) > 0.9 and largest_share(population=40) == 1.0


def shapes(space, count=5):
    noise = np.random.default_rng(0).random(len(space.gene_sizes) + 2)
    chosen = [space.at(i / (count - 1), noise) for i in range(count)]
    return [Candidate(s, cost.macs(space.backbone, s), cost.share(space.backbone, s), 0.0) for s in chosen]


def routed(routing, warm, joint, warm_up=route_frozen):
    """Targets, how often the backbone ran, what was spent, and the router before and after."""
    vit, ledger, targets, runs = tiny(), Spent(), [], []
    space = ProductSpace.eavit(vit.backbone, 0.5)
    router = Router(space)
    before = router.last.bias.detach().clone()
    gates = router.gates
    router.gates = lambda target, steps: (targets.append(target), gates(target, steps))[1]
    vit.register_forward_hook(lambda *_: runs.append(1))
    table = schedule_of(SCHEDULE)
    fits = (Fit(Blobs(), table, 0, n, ledger=ledger, phase=p) for p, n in (("warm", warm), ("joint", joint)))
    first, second = fits
    warm_up(vit, router, shapes(space), routing, first)
    route_jointly(vit, router, shapes(space), routing, second)
    return targets, len(runs), ledger, (before, router.last.bias.detach())


def test_published_targets_are_beyond_what_can_be_reached():
    published = routed(Routing(targets=(0.2, 1.1)), 30, 10)[0]
    own = routed(Routing(), 30, 10)[0]
    assert min(published) >= 0.2 and max(published) > 1.0
    assert min(own) >= min(p.share for p in shapes(ProductSpace.eavit(tiny().backbone, 0.5))) - 1e-9 and max(own) <= 1.0
    with pytest.raises(ValueError, match="neither targets nor references"):
        Routing().range([])


def test_a_silent_warm_up_asks_no_image_and_draws_no_noise():
    _, runs, ledger, (before, after) = routed(Routing(), 8, 0, route_silently)
    assert runs == 0 and ledger.forward_macs == ledger.backward_macs == 0
    assert not torch.equal(before, after)  # budget and references still pull
    _, runs, ledger, _ = routed(Routing(), 8, 0)
    assert runs == 8 and ledger.forward_macs > 0
    router = Router(ProductSpace.eavit(tiny().backbone, 0.5))
    quiet, again = (router.gates(0.5, router.straight) for _ in range(2))
    assert torch.equal(quiet.heads, again.heads) and torch.equal(quiet.mlp, router(0.5).mlp)
    quiet.heads.sum().backward()
    assert router.last.bias.grad.abs().sum() > 0


def test_an_epoch_of_one_batch_leaves_an_epoch_a_step(tmp_path):
    counts = {}
    for batches in (None, 1, 1000):
        task = TinyTask(tmp_path / f"{batches}", schedule=SCHEDULE | {"epochs": 3.0})
        task.workdir.mkdir()
        ea_vit_published({} if batches is None else {"epoch_batches": batches}, **SEARCH).adapt(task)
        counts[batches] = task.ledger.steps
    assert counts == {None: 18, 1: 3, 1000: 18}


def test_what_is_searched_was_never_trained(tmp_path):
    """Stage 1 draws tied layers, and all the same the choices' layers differ."""
    found = {}
    plain = SEARCH | {"stage2": {"selector": "search"}}
    for name, method in {
        "switch": ea_vit_published({"searched": "per_layer"}, **plain),
        "tied": ea_vit(stage1={"tying": "shared"}, **plain),
        "own": ea_vit(**plain),
    }.items():
        task = TinyTask(tmp_path / name, schedule=SHORT)
        task.workdir.mkdir()
        found[name] = method.adapt(task)
    report = {name: adapted.report() for name, adapted in found.items()}
    assert report["switch"]["weights"] == report["tied"]["weights"] != report["own"]["weights"]
    members = [Submodel.parse(key) for key, *_ in report["switch"]["front"]]
    assert any(len({h for h in s.heads if h}) > 1 or len({m for m in s.mlp if m}) > 1 for s in members)


def test_all_defects_together_still_keep_the_law(tmp_path):
    task = TinyTask(tmp_path)
    search = {"population": 5, "generations": 2}
    adapted = ea_vit_published({**PUBLISHED, "epoch_batches": 1}, search=search).adapt(task)
    b = tiny().backbone
    choices = [adapted.select(budget) for budget in task.budgets]
    assert choices[-1] is not None
    assert all(cost.share(b, s) <= budget for s, budget in zip(choices, task.budgets, strict=True) if s is not None)


def test_by_default_all_defects_but_the_short_epochs_are_there():
    assert {*PUBLISHED, "epoch_batches"} == set(DEFECTS)
    table = ea_vit_published().card["parameters"]
    assert {f"defects.{name}" for name in PUBLISHED} <= set(table) and "defects.epoch_batches" not in table
    assert table["defects.norm_eps"] == [1e-5, "ours"]


def test_impossible_defects_are_named():
    for defects, match in (
        ({"norm_over": "al"}, "option defects.norm_over='al' is unknown; allowed: all; nearest: all"),
        ({"norm_ovr": "all"}, "option defects.norm_ovr is unknown; .*nearest: norm_over"),
        ({"skipped_bias": 1}, "option defects.skipped_bias=1: must be true or false"),
        ({"fitness": "train"}, "option defects.fitness='train'.*nearest: train_batch"),
        ({"warmup": "quiet"}, "option defects.warmup='quiet'.*allowed: silent"),
        ({"searched": "perlayer"}, "option defects.searched.*nearest: per_layer"),
        ({"quotas": "papr"}, "option defects.quotas='papr'.*nearest: paper"),
        ({"norm_eps": 0.0}, "option defects.norm_eps=0.0"),
        ({"targets": [0.2]}, r"option defects.targets=\[0.2\]: must be two ascending"),
        ({"targets": [1.1, 0.2]}, "ascending"),
        ({"epoch_batches": 0}, "option defects.epoch_batches=0"),
    ):
        with pytest.raises(ValueError, match=match):
            ea_vit_published(defects)
    with pytest.raises(ValueError, match="option norm_over='all': is written defects.norm_over"):
        ea_vit_published(norm_over="all")
