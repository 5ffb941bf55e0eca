"""Losses: teachers get no gradient, penalties are zero where they should be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from eavit.model.gates import Gates
from eavit.model.submodel import Backbone, Submodel
from eavit.training.losses import budget_penalty, cross_entropy, distillation, hidden_gap, imitation
from tests.strategies import backbones, submodels

B = Backbone(8, 2, 4, 16, 2, 5, 3, patch_pixels=4, position_tokens=5)


def test_cross_entropy_with_smoothing_by_hand():
    logits, labels = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    log_p = F.log_softmax(logits, -1)[0]
    assert cross_entropy(logits, labels, 0.3).item() == pytest.approx(-(0.7 * log_p[0] + 0.1 * log_p.sum()).item())


def test_no_gradient_reaches_the_teacher():
    student, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    distillation(student, teacher, 2.0).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    assert distillation(teacher, teacher, 3.0).item() == pytest.approx(0, abs=1e-6)


@given(st.data())
def test_imitation_is_zero_only_at_the_reference(data):
    backbone = data.draw(backbones())
    a, b = data.draw(submodels(backbone)), data.draw(submodels(backbone))
    like = torch.zeros((), dtype=torch.float64)
    gap = imitation(Gates.of(a, backbone, like), Gates.of(b, backbone, like)).item()
    assert (gap == 0) == (a == b)


def test_budget_penalty_is_the_squared_gap_and_differentiable():
    gates = Gates.of(B.full, B)
    assert budget_penalty(B, gates, 1.0).item() == pytest.approx(0, abs=1e-12)
    assert budget_penalty(B, gates, 0.25).item() == pytest.approx(0.75**2, rel=1e-5)
    half = Gates.of(Submodel(4, (1, 1), (8, 8)), B)
    soft = Gates(half.embed.clone().requires_grad_(), half.heads, half.mlp)
    budget_penalty(B, soft, 0.01).backward()
    assert (soft.embed.grad > 0).all()  # too dear: every gate should shrink


@given(st.integers(0, 1000), st.floats(0.2, 8))
def test_distillation_is_torchs_own_divergence(seed, temperature):
    generator = torch.Generator().manual_seed(seed)
    mine, theirs = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    p, q = (torch.distributions.Categorical(logits=side / temperature) for side in (theirs, mine))
    wanted = temperature**2 * torch.distributions.kl_divergence(p, q).mean()
    assert distillation(mine, theirs, temperature).item() == pytest.approx(wanted.item(), abs=1e-10)


def test_hidden_gap_is_a_mean_of_means_and_leaves_the_teacher_alone():
    mine = [torch.zeros(2, 3, 4, requires_grad=True), torch.zeros(2, 5, 4, requires_grad=True)]
    theirs = [torch.full((2, 3, 4), 2.0, requires_grad=True), torch.full((2, 5, 4), 4.0, requires_grad=True)]
    gap = hidden_gap(mine, theirs)
    gap.backward()
    assert gap.item() == (4 + 16) / 2
    assert all(t.grad is None for t in theirs) and all((m.grad < 0).all() for m in mine)
    with pytest.raises(ValueError, match="zip"):
        hidden_gap(mine, theirs[:1])
