"""The one loop: it learns, resumes bit for bit, counts what it spends, and stops on a loss that is not finite."""

from dataclasses import replace

import pytest
import torch

from eavit.model import cost
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT
from eavit.space.product import ProductSpace
from eavit.training.checkpoint import Saving
from eavit.training.passes import Pass, Term, always, plain
from eavit.training.samplers import Curriculum, Random
from eavit.training.task import Spent
from eavit.training.train import Fit, Group, Schedule, accuracy, fit, fit_plan, learning_rate, schedule_of
from tests.eavit.small import SCHEDULE, Blobs, tiny


def trained(tmp_path, sampler_of=Curriculum, **changes):
    vit = tiny()
    space = ProductSpace.eavit(vit.backbone, 0.5)
    run = {"split": Blobs(), "schedule": schedule_of(SCHEDULE), "seed": 3} | changes
    fit_plan(vit, plain(sampler_of(space)), Fit(**run))
    return vit


def same_weights(a, b):
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_training_learns_and_every_size_profits(tmp_path):
    vit, space = trained(tmp_path, Random), ProductSpace.eavit(tiny().backbone, 0.5)
    assert not vit.training
    assert accuracy(vit, space.largest, Blobs(60, 9)) > 0.9
    assert accuracy(tiny(), space.largest, Blobs(60, 9)) < 0.7


@pytest.mark.parametrize("stop", [1, 7, 30, 47])
def test_a_killed_run_resumes_bit_for_bit(tmp_path, stop):
    """Stochastic depth, curriculum and data order included; the ledger too."""
    straight, ledger = trained(tmp_path), Spent()
    trained(tmp_path, ledger=ledger)

    def killed(phase, done, total):
        if done == stop:
            raise KeyboardInterrupt

    saving = Saving(tmp_path / "x.safetensors", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, saving=saving, progress=killed)
    seen, resumed_ledger = [], Spent()
    resumed = trained(tmp_path, saving=saving, ledger=resumed_ledger, progress=lambda *state: seen.append(state[1]))
    assert seen[0] == stop + 1 and seen[-1] == 48
    assert same_weights(straight, resumed)
    assert resumed_ledger == ledger


def test_a_finished_run_is_not_trained_again(tmp_path):
    saving = Saving(tmp_path / "x.safetensors")
    first = trained(tmp_path, saving=saving)
    again = trained(tmp_path, saving=saving, progress=lambda *_: pytest.fail("trained again"))
    assert same_weights(first, again)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    saving = Saving(tmp_path / "x.safetensors")
    trained(tmp_path, saving=saving)
    with pytest.raises(ValueError, match=r"x\.safetensors: made by another run.*seed=3.*seed=4.*delete it"):
        trained(tmp_path, saving=saving, seed=4)


def test_equal_seeds_equal_weights_and_global_state_is_left_alone(tmp_path):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = trained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same_weights(first, trained(tmp_path))
    assert not same_weights(first, trained(tmp_path, seed=4))


def test_the_ledger_counts_forward_and_backward(tmp_path):
    ledger, vit = Spent(), tiny()
    small = Submodel(6, (2, 2, 0), (6, 0, 6))
    space = ProductSpace(vit.backbone, (6, 12), (2, 4), (6, 24), 0, 0)
    run = Fit(Blobs(), schedule_of(SCHEDULE | {"epochs": 1}), 0, ledger=ledger)
    fit_plan(vit, always(small, space.largest), run)
    one = cost.macs(vit.backbone, small) + cost.macs(vit.backbone, space.largest)
    assert (ledger.steps, ledger.images) == (6, 96)
    assert (ledger.forward_macs, ledger.backward_macs) == (96 * one, 2 * 96 * one)
    accuracy(vit, small, Blobs(10), ledger)
    assert ledger.forward_macs == 96 * one + 10 * cost.macs(vit.backbone, small)


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path):
    with pytest.raises(FloatingPointError, match="loss is nan at step 0 of 6"):
        trained(tmp_path, split=Blobs(poison=0), schedule=schedule_of(SCHEDULE | {"epochs": 1, "batch": 96}), total=6)


class Short(Blobs):
    """A split that breaks the protocol: one batch too few an epoch."""

    def batches(self, size, *, seed=None, epoch=0):
        yield from list(super().batches(size, seed=seed, epoch=epoch))[:-1]


def test_a_split_that_gives_too_few_batches_is_not_trained_on_silently(tmp_path):
    with pytest.raises(ValueError, match="train: the fit split gave batches for 40 of 48 steps"):
        trained(tmp_path, split=Short())


def test_gradients_of_all_terms_add_up(tmp_path):
    """Two terms of half weight equal one of full weight."""

    def terms(parts):
        def run(model, images, labels, step):
            for _ in range(parts):
                yield Term(torch.nn.functional.cross_entropy(model(images), labels) / parts, 0, 0)

        return run

    models = [tiny(), tiny()]
    for parts, model in enumerate(models, 1):
        plan = Fit(Blobs(), schedule_of(SCHEDULE | {"drop_path": 0.0}), 0, total=3)
        fit(model.double(), terms(parts), [Group(model, 1e-3, 1e-4)], _double(plan))
    assert all(torch.allclose(v, models[1].state_dict()[k], atol=1e-9) for k, v in models[0].state_dict().items())


def _double(plan):
    class Doubled(Blobs):
        def batches(self, size, *, seed=None, epoch=0):
            return ((x.double(), y) for x, y in super().batches(size, seed=seed, epoch=epoch))

    return Fit(Doubled(), plan.schedule, plan.seed, plan.total)


def test_learning_rate_rises_then_falls_to_the_floor():
    rates = [learning_rate(i, 100, 0.1, 1e-3, 1e-5) for i in range(100)]
    assert rates[9] == rates[10] == 1e-3 and rates[-1] == pytest.approx(1e-5)
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(0, 1, 0.0, 1e-3, 1e-5) == 1e-3


def test_schedules_count_steps_and_refuse_nonsense():
    assert Schedule(epochs=2, batch=64).steps(1000) == 30
    assert Schedule(epochs=0.01, batch=64).steps(10) == 1
    for bad in ({"epochs": -1}, {"batch": 0}, {"precision": "fp8"}, {"lr": float("nan")}, {"drop_path": 1.5}):
        with pytest.raises(ValueError, match=f"option schedule.{next(iter(bad))}=.*(must be|allowed: no, bf16, fp16)"):
            Schedule(**bad)


def test_bfloat16_trains_on_cpu(tmp_path):
    vit = trained(tmp_path, schedule=schedule_of(SCHEDULE | {"precision": "bf16"}))
    assert accuracy(vit, vit.backbone.full, Blobs(60, 9)) > 0.8
    assert next(vit.parameters()).dtype == torch.float32


def test_frozen_parameters_stay_as_they_are_and_frozen():
    vit = tiny()
    vit.requires_grad_(False).head.requires_grad_(True)
    before = {key: value.clone() for key, value in vit.state_dict().items()}
    fit_plan(vit, plain(Random(ProductSpace.eavit(vit.backbone, 0.5))), Fit(Blobs(), schedule_of(SCHEDULE), 0, 4))
    changed = {key for key, value in vit.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"head.weight", "head.bias"} == {name for name, p in vit.named_parameters() if p.requires_grad}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in half precision")
def test_half_precision_without_a_gpu_is_refused_before_any_step():
    run = Fit(Blobs(), schedule_of(SCHEDULE | {"precision": "fp16"}), 0, 4, progress=lambda *_: pytest.fail("a step"))
    with pytest.raises(ValueError, match=r"precision='fp16' needs a GPU .* use 'bf16' or 'no'"):
        fit_plan(tiny(), plain(Random(ProductSpace.eavit(tiny().backbone, 0.5))), run)


def plans(vit):
    """Plans whose passes learn from labels, from each other, and from the tail of the weights."""
    space = ProductSpace.eavit(vit.backbone, 0.5)
    taught = Pass(space.smallest, hard=0.5, soft=0.5, source=0, smoothed=False)
    tail = Pass(Submodel(6, (2, 2, 2), (12, 12, 12)), hard=1.0, soft=1.0, source=0, tail=True)
    return lambda progress, rng: (Pass(space.largest), taught, tail)


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_micro_batches_train_as_the_whole_batch(size):
    """Up to rounding, without draws of single images; and they are charged as one."""
    ledgers, models = [Spent(), Spent()], [tiny().double(), tiny().double()]
    for micro, ledger, model in zip((0, size), ledgers, models, strict=True):
        schedule = schedule_of(SCHEDULE | {"drop_path": 0.0, "micro_batch": micro})
        fit_plan(model, plans(model), replace(_double(Fit(Blobs(), schedule, 0, total=4)), ledger=ledger))
    assert ledgers[0] == ledgers[1]
    assert all(torch.allclose(v, models[1].state_dict()[k], atol=1e-8) for k, v in models[0].state_dict().items())


def test_micro_batches_run_few_images_at_once(monkeypatch):
    seen = []
    forward = NestedViT.forward
    monkeypatch.setattr(NestedViT, "forward", lambda vit, x, *more: seen.append(len(x)) or forward(vit, x, *more))
    vit = tiny()
    fit_plan(vit, always(vit.backbone.full), Fit(Blobs(), schedule_of(SCHEDULE | {"micro_batch": 6}), 0, total=2))
    assert seen == [5, 5, 6] * 2


def test_checkpointed_blocks_train_to_the_same_bit():
    """With stochastic depth, distillation and passes of the tail; the model is left as it was."""
    models = [tiny(), tiny()]
    for on, model in zip((False, True), models, strict=True):
        schedule = schedule_of(SCHEDULE | {"drop_path": 0.2, "checkpointing": on})
        fit_plan(model, plans(model), Fit(Blobs(), schedule, 0, total=4))
    assert same_weights(*models)
    assert not models[1].grad_checkpointing


def test_checkpointing_runs_blocks_again():
    vit, runs = tiny(), []
    vit.blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    for on in (False, True):
        runs.clear()
        schedule = schedule_of(SCHEDULE | {"checkpointing": on})
        fit_plan(vit, always(vit.backbone.full), Fit(Blobs(), schedule, 0, total=1))
        assert len(runs) == 1 + on
