"""Step plans: what is propagated, who learns from whom, what it costs, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from eavit.model import cost
from eavit.model.objective import distillation
from eavit.model.submodel import Submodel
from eavit.model.vit import extract
from eavit.space.product import ProductSpace
from eavit.training.distributed import Share
from eavit.training.passes import (
    TEACHER,
    Pass,
    Step,
    checked_passes,
    cost_of,
    cost_of_steps,
    flipped,
    hidden_distance,
    plain,
    terms_of,
)
from eavit.training.plans import in_place, micro_batches, next_larger, taught
from eavit.training.samplers import Always, Curriculum, Random, Sandwich
from eavit.training.task import Spent
from eavit.training.train import Fit, fit_plan, schedule_of
from tests.eavit.small import SCHEDULE, Blobs, tiny
from tests.strategies import submodels

B = tiny().backbone
FULL, MIDDLE, SMALL = B.full, Submodel(9, (3, 0, 3), (12, 12, 12)), Submodel(6, (2, 2, 0), (6, 0, 6))
NARROW = Submodel(12, (2, 0, 2), (6, 0, 24))  # full embedding, one layer resting
SPACE = ProductSpace.eavit(B, 0.5)
STEP = Step(3, 10, 7, Share(0, 12, 12))


def batch(count=12, seed=5):
    images, labels = next(Blobs(count, seed).batches(count))
    return images.double(), labels


def vit(seed=0, **changes):
    return tiny(seed=seed, **changes).double().eval()


def fixed(*passes):
    return lambda progress, rng: passes


def run(model, plan, *, teacher=None, smoothing=0.0, step=STEP):
    """The losses of a step, propagated as the trainer does."""
    terms = list(terms_of(model, plan, smoothing, teacher)(model, *batch(), step))
    sum(t.loss for t in terms if t.loss is not None).backward()
    return [t.loss for t in terms if t.loss is not None]


def test_the_first_learns_from_labels_the_others_from_its_detached_logits():
    model, other = vit(), vit()
    losses = run(model, fixed(Pass(FULL), Pass(SMALL, hard=0, soft=0.5, source=0, temperature=2.0)))
    x, y = batch()
    logits = other(x, FULL)
    F.cross_entropy(logits, y).backward()
    (0.5 * distillation(other(x, SMALL), logits.detach(), 2.0)).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, other.get_parameter(name).grad, atol=1e-12), name
    assert losses[1].item() == pytest.approx(0.5 * distillation(other(x, SMALL), logits, 2.0).item())


def test_no_gradient_reaches_the_source_in_place():
    """A pass that only serves as a source: all gradient lies in the learner's slices, none in the rest."""
    model = vit()
    source = Pass(FULL, hard=0)
    run(model, fixed(source, Pass(SMALL, hard=0, soft=1, source=0)))
    assert model.blocks[0].mlp.fc1.weight.grad[:6, :6].abs().sum() > 0
    assert model.blocks[0].mlp.fc1.weight.grad[6:].abs().sum() == 0
    assert model.blocks[2].attn.qkv.weight.grad is None  # SMALL skips it, FULL's pass left nothing


def test_no_gradient_reaches_a_teacher_and_it_is_asked_once():
    model, teacher, calls = vit(), vit(seed=1), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    run(model, taught(Always(SPACE, (FULL, MIDDLE, SMALL))), teacher=teacher)
    assert all(p.grad is None for p in teacher.parameters()) and len(calls) == 1
    assert all(p.grad is not None for p in model.parameters())


def test_features_are_compared_on_kept_layers_and_the_embedding():
    model, teacher = vit(), vit(seed=1)
    losses = run(model, fixed(Pass(NARROW, hard=0, features=0.1, source=TEACHER)), teacher=teacher)
    x, _ = batch()
    (logits, mine), (_, theirs) = model.hidden(x, NARROW), teacher.hidden(x)
    assert torch.equal(logits, model(x, NARROW)) and len(mine) == B.depth + 1
    wanted = 0.1 * sum(F.mse_loss(mine[i], theirs[i]) for i in (0, 1, 3)) / 3  # layer 2 rests
    assert losses[0].item() == pytest.approx(wanted.item(), abs=1e-12)
    assert all(p.grad is None for p in teacher.parameters())


def test_features_in_place_leave_the_source_alone():
    model, other = vit(), vit()
    run(model, fixed(Pass(FULL, hard=0), Pass(NARROW, hard=0, features=1, source=0)))
    x, _ = batch()
    theirs = [state.detach() for state in other.hidden(x, FULL)[1]]
    mine = other.hidden(x, NARROW)[1]
    (sum(F.mse_loss(mine[i], theirs[i]) for i in (0, 1, 3)) / 3).backward()
    for name, parameter in model.named_parameters():
        wanted = other.get_parameter(name).grad
        assert (parameter.grad is None) == (wanted is None), name
        assert wanted is None or torch.allclose(parameter.grad, wanted, atol=1e-12), name


def test_last_state_gives_the_logits():
    model, (x, _) = vit(), batch()
    logits, states = model.hidden(x, MIDDLE)
    assert torch.equal(logits, model(x, MIDDLE))
    last = extract(model, MIDDLE).forward_features(x)
    assert torch.allclose(model.norm(states[-1], 9), last, atol=1e-6)


def test_a_micro_batch_learns_from_its_own_rows_of_the_source():
    part = (1, 3)
    losses = run(vit(), fixed(Pass(FULL), Pass(SMALL, hard=0, soft=1, source=0, part=part)))
    x, _ = batch()
    wanted = distillation(vit()(x[4:8], SMALL), vit()(x[4:8], FULL))
    assert losses[1].item() == pytest.approx(wanted.item(), abs=1e-12)


@pytest.mark.parametrize(
    "changes",
    [{}, {"reg_tokens": 2}, {"init_values": 0.5}, {"qk_norm": True}, {"global_pool": "avg", "class_token": False}],
)
@settings(max_examples=12)
@given(data=st.data())
def test_the_tail_is_the_last_channels_heads_and_neurons(changes, data):
    """By hand: reverse whole heads, neurons and channels of a copy; its prefix is the tail. Full width: no change."""
    model = vit(**changes)
    x, _ = batch(3)
    mirrored = tiny(**changes).double()
    mirrored.load_state_dict({k: v.detach() for k, v in flipped(model).items()})
    assert torch.allclose(mirrored(x), model(x), atol=1e-10)
    submodel = data.draw(submodels(model.backbone))
    d, w = model.backbone.head_dim, submodel.embed
    plain = extract(mirrored, submodel)
    kept = [i for i in range(submodel.depth) if submodel.heads[i]]
    for layer in kept[:1]:
        h = submodel.heads[layer]
        last = model.blocks[layer].attn.proj.weight[-w:, -h * d :].flip(0).unflatten(1, (h, d)).flip(1).flatten(1)
        place = sum(1 for i in range(layer) if submodel.heads[i] or submodel.mlp[i])
        assert torch.equal(plain.blocks[place].attn.proj.weight, last)
    assert torch.equal(plain.head.weight, model.head.weight[:, -w:].flip(1))
    assert torch.equal(plain.pos_embed, model.pos_embed[..., -w:].flip(-1))


def test_a_tail_pass_trains_the_tail_only():
    model = vit()
    run(model, fixed(Pass(SMALL, tail=True)))
    grad = model.blocks[0].mlp.fc1.weight.grad
    assert grad[-6:, -6:].abs().sum() > 0 and grad[:-6].abs().sum() == 0 and grad[:, :-6].abs().sum() == 0
    plan = next_larger(Always(SPACE, (SMALL, FULL, MIDDLE)), isolated=True)
    assert [(p.submodel, p.tail, p.source) for p in plan(0, np.random.default_rng(0))] == [
        (FULL, False, None),
        (MIDDLE, True, 0),
        (SMALL, False, 1),
    ]


FAULTS = {
    "no loss at all": (Pass(FULL, hard=0),),
    "pass 1 .*no loss and no other pass": (Pass(FULL), Pass(SMALL, hard=0)),
    "source=1 is neither an earlier pass": (Pass(FULL), Pass(SMALL, soft=1, source=1)),
    "source=-1 is neither": (Pass(FULL), Pass(SMALL, soft=1, source=-1)),
    "source='techer' is neither": (Pass(FULL, soft=1, source="techer"),),
    "the fit has no teacher": (Pass(FULL, soft=1, source=TEACHER),),
    "need a source": (Pass(FULL, soft=1),),
    "source=0, but soft and features are both 0": (Pass(FULL), Pass(SMALL, source=0)),
    r"part=\(3, 3\): needs 0 <= i < g <= 12": (Pass(FULL, part=(3, 3)),),
    r"part=\(0, 13\)": (Pass(FULL, part=(0, 13)),),
    "saw other images": (Pass(FULL, part=(0, 2)), Pass(SMALL, soft=1, source=0, part=(1, 2))),
    "features need the full embedding": (Pass(FULL), Pass(SMALL, features=1, source=0)),
    "features need the full": (Pass(MIDDLE), Pass(FULL, features=1, source=0)),
    "features of a tail": (Pass(FULL), Pass(NARROW, features=1, source=0, tail=True)),
    "hard=nan": (Pass(FULL, hard=float("nan")),),
    "soft=-1": (Pass(FULL), Pass(SMALL, soft=-1, source=0)),
    "temperature=0": (Pass(FULL, temperature=0),),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_plan_are_named(fault):
    with pytest.raises(ValueError, match=fault):
        next(terms_of(vit(), fixed(*FAULTS[fault]), 0.0)(vit(), *batch(), STEP))


def test_a_foreign_or_shared_teacher_is_refused():
    with pytest.raises(ValueError, match="teacher has 5 classes, the model 3"):
        checked_passes((Pass(FULL, soft=1, source=TEACHER),), B, 12, replace(B, num_classes=5))
    model = tiny()
    with pytest.raises(ValueError, match="shares .* parameters"):
        fit_plan(model, taught(Always(SPACE, (FULL,))), Fit(Blobs(), schedule_of(SCHEDULE), 0, 1), teacher=model)


PLANS = {
    "plain": plain(Curriculum(SPACE)),
    "in_place": in_place(Sandwich(SPACE)),
    "next_larger": next_larger(Sandwich(SPACE), isolated=True),
    "taught": taught(Random(SPACE, count=3)),
    "micro": micro_batches(Random(SPACE), 5),
    "source only": fixed(Pass(FULL, hard=0), Pass(SMALL, soft=1, source=0)),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_cost_of_a_plan_is_what_the_ledger_counts(name, tmp_path):
    ledger, teacher = Spent(), tiny(seed=1, embed_dim=24)
    run = Fit(Blobs(), schedule_of(SCHEDULE), 3, total=5, ledger=ledger)
    fit_plan(tiny(), PLANS[name], run, teacher)
    spent = cost_of_steps(PLANS[name], B, 16, 3, 5, teacher.backbone)
    assert ledger.forward_macs + ledger.backward_macs == spent
    assert (ledger.images, ledger.steps) == (80, 5)


def test_cost_by_hand():
    full, small = cost.macs(B, FULL), cost.macs(B, SMALL)
    passes = (Pass(FULL, hard=0), Pass(SMALL, soft=1, source=0, part=(1, 4)), Pass(SMALL, soft=1, source=TEACHER))
    assert cost_of(passes, B, 10) == Spent(20 * full + 13 * small, 2 * 13 * small, 10, 1)


def test_a_teacher_is_not_in_the_students_checkpoint_and_does_not_change(tmp_path):
    from safetensors import safe_open

    from eavit.training.train import Saving

    student, teacher = tiny(), tiny(seed=1).train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    saving = Saving(tmp_path / "x.safetensors", 0)
    fit_plan(student, taught(Random(SPACE)), Fit(Blobs(), schedule_of(SCHEDULE), 3, 4, saving), teacher)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    with safe_open(saving.path, "pt") as file:
        assert {key.removeprefix("model.") for key in file.keys()} == set(student.state_dict())  # noqa: SIM118


def test_no_gradient_reaches_the_teacher():
    student, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    distillation(student, teacher, 2.0).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    assert distillation(teacher, teacher, 3.0).item() == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 1000), st.floats(0.2, 8))
def test_distillation_is_torchs_kl_divergence(seed, temperature):
    generator = torch.Generator().manual_seed(seed)
    mine, theirs = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    p, q = (torch.distributions.Categorical(logits=side / temperature) for side in (theirs, mine))
    wanted = temperature**2 * torch.distributions.kl_divergence(p, q).mean()
    assert distillation(mine, theirs, temperature).item() == pytest.approx(wanted.item(), abs=1e-10)


def test_hidden_distance_is_a_mean_of_means_and_leaves_the_teacher_alone():
    mine = [torch.zeros(2, 3, 4, requires_grad=True), torch.zeros(2, 5, 4, requires_grad=True)]
    theirs = [torch.full((2, 3, 4), 2.0, requires_grad=True), torch.full((2, 5, 4), 4.0, requires_grad=True)]
    gap = hidden_distance(mine, theirs)
    gap.backward()
    assert gap.item() == (4 + 16) / 2
    assert all(t.grad is None for t in theirs) and all((m.grad < 0).all() for m in mine)
    with pytest.raises(ValueError, match="zip"):
        hidden_distance(mine, theirs[:1])
