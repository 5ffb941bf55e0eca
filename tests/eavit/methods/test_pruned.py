"""Prune to a budget: widths by bisection on counted MACs, units by torch-pruning, one fine-tuned model each."""

import json
import sys
from importlib import import_module

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import build
from timm.layers import SwiGLU

from eavit.extras import MissingExtraError
from eavit.methods.pruned import CRITERIA, gradients_of, prune, pruned, widths_at
from eavit.model import cost
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT
from eavit.training.checkpoint import load_tensors
from tests.eavit.model.test_nested_eva import DEIT, EVA
from tests.eavit.model.vits import TINY
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, plain, tiny

room = import_module("eavit.methods.pruned")  # the package has a function of this name
VIT_B = Backbone(768, 12, 64, 3072, 12, 197, 100)
SHORT = SCHEDULE | {"epochs": 1.0}
TAYLOR = CRITERIA["taylor"]
LAYOUTS = (
    {},
    {"init_values": 0.1},
    {"reg_tokens": 2},
    {"class_token": False, "global_pool": "avg"},
    {"pre_norm": True},
    {"qkv_bias": False},
    {"proj_bias": False},
    {"num_heads": 2},
)


def shaken(**changes):
    """A tiny ViT no two of whose units are equal."""
    vit = tiny(**changes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return vit


def batch(n=12):
    return next(Blobs(n, 4).batches(n))


# --- how many units -------------------------------------------------------------------------------------------------


@given(st.floats(0.0005, 1.0), st.sampled_from([VIT_B, tiny().backbone]), st.sampled_from([1, 2, 8]), st.booleans())
def test_widths_never_cost_more_than_the_budget(budget, backbone, round_to, channels):
    shape = widths_at(backbone, budget, round_to, channels)
    if shape is None:
        assert budget < (0.6 if not channels else 0.3)
        return
    assert cost.share(backbone, shape) <= budget
    assert shape.embed % round_to == 0 or shape.embed == backbone.embed
    assert channels or shape.embed == backbone.embed


@pytest.mark.parametrize("budget", [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
def test_the_budget_is_used_and_the_head_ratio_follows_it(budget):
    """The source's example takes half of the heads, whatever is asked."""
    shape = widths_at(VIT_B, budget)
    assert cost.share(VIT_B, shape) > 0.985 * budget
    kept = shape.embed / VIT_B.embed
    assert abs(shape.heads[0] - 12 * kept) <= 0.51
    assert shape.mlp[0] / VIT_B.mlp >= kept - 0.01


def test_heads_differ_from_budget_to_budget_and_grow_with_it():
    heads = [widths_at(VIT_B, b).heads[0] for b in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert heads == sorted(heads) and len(set(heads)) >= 6 and heads[-1] == 12


def test_nothing_is_pruned_at_the_full_budget_and_below_the_floor_there_is_nothing():
    assert widths_at(VIT_B, 1.0) == VIT_B.full
    assert widths_at(VIT_B, 0.0005) is None
    assert widths_at(VIT_B, 0.03, channels=False) is None


# --- which units ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", LAYOUTS, ids=str)
@pytest.mark.parametrize("budget", [0.25, 0.6])  # at the first one torch-pruning itself mixes up the norms
def test_the_same_channels_go_everywhere_and_heads_go_whole(changes, budget):
    vit = shaken(**changes)
    widths, b = widths_at(vit.backbone, budget), vit.backbone
    full, left = vit.state_dict(), prune(vit, gradients_of(vit, [batch()]), widths, TAYLOR)
    rows, kept = (state["patch_embed.proj.weight"].flatten(1) for state in (full, left))
    channels = [int((rows - row).abs().sum(1).argmin()) for row in kept]
    assert len(set(channels)) == widths.embed
    for key, value in left.items():
        if key.endswith(("pos_embed", "cls_token", "reg_token", "gamma", "head.weight")) or "norm" in key:
            assert torch.equal(full[key][..., channels], value), key
    for layer in range(b.depth):
        big = full[f"blocks.{layer}.attn.qkv.weight"][:, channels].view(3, b.heads, -1)
        small = left[f"blocks.{layer}.attn.qkv.weight"].view(3, widths.heads[layer], -1)
        heads = [[h for h in range(b.heads) if torch.equal(big[0, h], row)] for row in small[0]]
        whole = [h for (h,) in heads]
        assert torch.equal(big[:, whole], small)  # of queries, keys and values the same heads
        columns = full[f"blocks.{layer}.attn.proj.weight"][channels].view(len(channels), b.heads, -1)
        assert torch.equal(columns[:, whole].flatten(1), left[f"blocks.{layer}.attn.proj.weight"])


def test_what_does_nothing_goes_first():
    vit = shaken()
    dead, weak = [1, 5, 8, 13, 20, 22], (2, 3)  # neurons of layer 0, and a head of layer 2
    with torch.no_grad():
        vit.blocks[0].mlp.fc2.weight[:, dead] = 0
        vit.blocks[0].mlp.fc1.weight[dead] = 0
        vit.blocks[2].attn.proj.weight[:, weak[1] * 3 : weak[1] * 3 + 3] = 0
        for part in range(3):
            vit.blocks[2].attn.qkv.weight[12 * part + 9 : 12 * part + 12] = 0
    widths = type(vit.backbone.full)(12, (3,) * 3, (18,) * 3)
    left = prune(vit, gradients_of(vit, [batch()]), widths, TAYLOR)
    alive = [n for n in range(24) if n not in dead]
    assert torch.equal(left["blocks.0.mlp.fc1.bias"], vit.blocks[0].mlp.fc1.bias[alive])
    assert torch.equal(left["blocks.2.attn.proj.weight"], vit.blocks[2].attn.proj.weight[:, :9])


@pytest.mark.parametrize("importance", CRITERIA)
def test_what_is_left_at_the_full_budget_is_the_whole_model(importance):
    vit, (x, _) = shaken(), batch()
    state = prune(vit, gradients_of(vit, [batch()]), vit.backbone.full, CRITERIA[importance])
    with torch.no_grad():
        assert torch.allclose(room.narrowed(vit, vit.backbone.full, state)(x), vit(x), atol=1e-6)


def test_queries_and_keys_with_norms_are_refused_by_name(tmp_path):
    class Normed(TinyTask):
        def backbone(self):
            return plain(qk_norm=True)

    task = Normed(tmp_path)
    with pytest.raises(ValueError, match="method pruned: this backbone has norms on queries and keys"):
        pruned().adapt(task)
    with pytest.raises(ValueError, match="method pruned: this backbone has norms"):
        pruned().check(task.backbone(), (1.0,), (), "equal_steps")


@pytest.mark.parametrize("recipe", [EVA, DEIT, {**TINY, "mlp_layer": SwiGLU}], ids=["eva", "distilled", "gated"])
def test_backbones_whose_units_torch_pruning_may_cut_wrongly_are_refused(recipe):
    with pytest.raises(ValueError, match="method pruned: this backbone is not a VisionTransformer with plain MLPs"):
        pruned().check(build(recipe), (1.0,), (), "equal_steps")


# --- the method -----------------------------------------------------------------------------------------------------


def test_one_run_for_each_budget_with_a_key_that_tells_its_widths(tmp_path):
    task = TinyTask(tmp_path, schedule=SHORT, budgets=(0.02, 0.4, 0.7, 1.0))
    adapted = pruned(images=32).adapt(task)
    keys = [adapted.select(b) and str(adapted.select(b)) for b in task.budgets]
    assert keys[0] is None and keys[3] == "pruned-1-e12-h4x3-m24x3"
    assert all(key.startswith(f"pruned-{b:g}-e") for key, b in zip(keys[1:], task.budgets[1:], strict=True))
    assert task.ledger.steps == 3 * 6
    assert set(adapted.report()["weights"]) == set(keys[1:])
    module = adapted.module(adapted.select(0.4))
    with torch.no_grad():
        assert module(batch()[0]).shape == (12, 3) and type(module).__module__.startswith("timm")


def test_gradients_are_taken_once_and_charged_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(room, "gradients_of", lambda *given: asked.append(1) or gradients_of(*given))
    books = {}
    for name, importance in (("taylor", "taylor"), ("l2", "l2")):
        (tmp_path / name).mkdir()
        task = TinyTask(tmp_path / name, schedule=SHORT)
        pruned(importance, images=40).adapt(task)
        books[name] = task.ledger
    full = cost.macs(tiny().backbone, tiny().backbone.full)
    assert len(asked) == 1
    assert books["taylor"].forward_macs - books["l2"].forward_macs == 40 * full
    assert books["taylor"].backward_macs - books["l2"].backward_macs == 80 * full


def test_a_killed_run_does_not_prune_again_and_keeps_no_pickle(tmp_path, monkeypatch):
    def refused(*given, **named):
        raise AssertionError("asked again, or a pickle")

    for name in ("save", "load"):
        monkeypatch.setattr(torch, name, refused)
    with pytest.raises(KeyboardInterrupt):
        pruned().adapt(TinyTask(tmp_path, schedule=SHORT, stop_at=("train-2-of-3", 3)))
    _, note = load_tensors(tmp_path / "pruned-0.4.safetensors")
    assert note["widths"] == str(widths_at(tiny().backbone, 0.4))
    monkeypatch.setattr(room, "prune", refused)
    assert pruned().adapt(TinyTask(tmp_path, schedule=SHORT)).select(1.0) is not None
    with pytest.raises(AssertionError, match="asked again"):  # kept for another criterion: not taken
        pruned("l2").adapt(TinyTask(tmp_path, schedule=SHORT))


def test_a_process_keeps_nothing_of_a_pruned_model():
    """torch-pruning's defaults are dictionaries that all its pruners share."""
    import torch_pruning

    vit = shaken()
    prune(vit, gradients_of(vit, [batch()]), widths_at(vit.backbone, 0.5), TAYLOR)
    assert not any(torch_pruning.pruner.BasePruner.__init__.__defaults__[n] for n in range(30) if _is_dict(n))


def _is_dict(place):
    import torch_pruning

    defaults = torch_pruning.pruner.BasePruner.__init__.__defaults__
    return place < len(defaults) and isinstance(defaults[place], dict)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    method = pruned()  # the suite still plans, and other methods run
    with pytest.raises(MissingExtraError, match=r"torch-pruning.*extra `pruning`.*eavit-bench\[pruning\]"):
        method.adapt(TinyTask(tmp_path))


def test_gradients_that_are_not_finite_are_reported():
    with pytest.raises(FloatingPointError, match="gradients of .* are not finite"):
        gradients_of(tiny(), Blobs(12, poison=3).batches(12))


def test_wrong_options_of_pruned_are_named():
    with pytest.raises(ValueError, match="importance='tailor'.*taylor, l1, l2; nearest: taylor"):
        pruned("tailor")
    with pytest.raises(ValueError, match="units='iner'.*nearest: inner"):
        pruned(units="iner")
    for name in ("images", "round_to"):
        with pytest.raises(ValueError, match=f"option {name}=0: must be a whole number from 1 up"):
            pruned(**{name: 0})
    json.dumps(pruned().card)


def test_inner_units_leave_the_channels(tmp_path):
    task = TinyTask(tmp_path, schedule=SHORT, budgets=(0.5, 1.0))
    choice = pruned(units="inner").adapt(task).select(0.5)
    assert choice.widths.embed == 12 and choice.widths.heads[0] < 4
    assert cost.share(NestedViT.from_timm(plain()).backbone, choice.widths) <= 0.5
