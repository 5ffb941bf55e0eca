"""Step plans of the methods, run as the trainer runs them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from eavit.training.passes import Pass, plain
from eavit.training.plans import in_place, micro_batches, taught
from eavit.training.samplers import Always, Random, Sandwich
from eavit.training.train import Fit, fit_plan, schedule_of
from tests.eavit.small import SCHEDULE, Blobs, tiny
from tests.eavit.training.test_passes import FULL, NARROW, SPACE, STEP, batch, fixed, run, vit


def test_regularised_or_not():
    """Label smoothing and stochastic depth of the smoothed passes alone."""
    model = vit().train()
    model.drop_path = (0.0, 0.9, 0.9)
    x, y = batch()
    torch.manual_seed(0)
    (quiet,) = run(model, fixed(Pass(FULL, smoothed=False)), smoothing=0.3)
    assert quiet.item() == pytest.approx(F.cross_entropy(vit()(x), y).item(), abs=1e-12)
    (noisy,) = run(model, fixed(Pass(FULL)), smoothing=0.3)
    assert noisy.item() != pytest.approx(F.cross_entropy(vit()(x), y, label_smoothing=0.3).item(), abs=1e-6)
    assert [p.smoothed for p in in_place(Sandwich(SPACE))(0, np.random.default_rng(0))] == [True, False, False, False]


def test_micro_batches_cover_the_batch_once():
    model, other = vit(), vit()
    plan = micro_batches(Random(SPACE), 5)
    passes = plan(STEP.progress, STEP.rng)
    run(model, plan)
    x, y = batch()
    for i, p in enumerate(passes):
        rows = slice(i * 12 // 5, (i + 1) * 12 // 5)
        (F.cross_entropy(other(x[rows], p.submodel), y[rows]) / 5).backward()
    assert torch.allclose(model.head.weight.grad, other.head.weight.grad, atol=1e-12)
    same = micro_batches(Always(SPACE, (FULL,)), 4)
    a, b = vit(), vit()
    run(a, same), run(b, plain(Always(SPACE, (FULL,))))
    assert torch.allclose(a.head.weight.grad, b.head.weight.grad, atol=1e-12)


def test_every_plan_learns_in_bfloat16_too(tmp_path):
    teacher = tiny()
    fit_plan(teacher, plain(Always(SPACE, (FULL,))), Fit(Blobs(), schedule_of(SCHEDULE), 3))
    for plan in (in_place(Always(SPACE, (FULL, NARROW))), taught(Always(SPACE, (NARROW,)), features=0.1)):
        student = tiny()
        run = Fit(Blobs(), schedule_of(SCHEDULE | {"precision": "bf16"}), 3)
        fit_plan(student, plan, run, teacher)
        x, y = next(Blobs(60, 9).batches(60))
        assert (student(x, NARROW).argmax(-1) == y).float().mean() > 0.8
        assert next(student.parameters()).dtype == torch.float32
