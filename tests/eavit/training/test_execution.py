"""Models run outside the training loop as they run in it: in its precision, and with as few images at once."""

import pytest
import torch
from scipy.stats import spearmanr

from eavit.methods import ea_vit
from eavit.model.importance import score
from eavit.space.product import ProductSpace
from eavit.training.execution import PLAIN, Execution
from eavit.training.prepare import prepare, scored, start
from eavit.training.scores import ACCURACY, score_on
from tests.eavit.small import SCHEDULE, Blobs, TinyTask, tiny

BF16 = {**SCHEDULE, "precision": "bf16"}
# Of the tiny task in float32, as they were before precision and micro-batches reached preparation and search.
ORDER = [0, 7, 6, 9, 11, 8, 10, 1, 5, 2, 3, 4]
CHOICES = [None, "e12-h4.0.2-m6.12.0", "e9-h4x3-m24x2.6", "e12-h4x3-m24x3"]


@pytest.fixture
def seen(monkeypatch):
    """Number of images and precision of each forward of a patch embedding."""
    calls = []
    plain = torch.nn.functional.conv2d

    def watched(images, *args, **more):
        out = plain(images, *args, **more)
        calls.append((len(images), out.dtype))
        return out

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    return calls


def test_a_schedule_without_these_keys_runs_in_full_precision():
    assert Execution.of({}) == PLAIN == Execution("no", 0)
    assert Execution.of(BF16 | {"micro_batch": 5}) == Execution("bf16", 5)
    assert Execution("fp16").for_gradients == PLAIN and Execution("bf16").for_gradients == Execution("bf16")


def test_pieces_hold_every_image_once_in_order():
    whole = list(Blobs(50).batches(16))
    pieces = list(Execution(micro_batch=6).pieces(whole))
    assert [len(labels) for _, labels in pieces] == [6, 6, 4] * 3 + [2]
    for side in (0, 1):
        assert torch.equal(torch.cat([pair[side] for pair in pieces]), torch.cat([pair[side] for pair in whole]))
    assert [len(labels) for _, labels in PLAIN.pieces(whole)] == [16, 16, 16, 2]


@pytest.mark.parametrize("importance", ["taylor", "activation", "variance", "rotated"])
def test_preparation_keeps_to_the_precision_and_the_micro_batch(importance, tmp_path, seen):
    run = TinyTask(tmp_path, schedule=BF16 | {"micro_batch": 7})
    prepare(run, start(run), importance)
    assert seen and {dtype for _, dtype in seen} == {torch.bfloat16}
    assert max(count for count, _ in seen) == 7


def test_the_search_keeps_to_the_precision_and_the_micro_batch(tmp_path, seen):
    run = TinyTask(tmp_path, schedule=BF16 | {"micro_batch": 7, "epochs": 1.0})
    ea_vit(search={"population": 4, "generations": 1}).adapt(run)
    assert {dtype for _, dtype in seen} == {torch.bfloat16}
    assert max(count for count, _ in seen) == 7


@pytest.mark.parametrize("metric", ["taylor", "activation", "variance"])
def test_scores_do_not_depend_on_the_micro_batch(metric):
    vit, batches = tiny().double(), [(x.double(), y) for x, y in Blobs(96).batches(64)]
    whole, pieces = score(vit, batches, metric), score(vit, batches, metric, micro_batch=5)
    for name in ("channels", "heads", "neurons"):
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name), rtol=1e-9, atol=0)


@pytest.mark.parametrize("metric", ["taylor", "variance"])
def test_bfloat16_orders_units_nearly_as_float32(metric, tmp_path):
    """Rank correlations of the scores, on a backbone whose random weights hardly tell units apart."""
    run = TinyTask(tmp_path)
    vit = prepare(run, start(run), "none")
    exact, half = scored(run, vit, metric, "search"), scored(TinyTask(tmp_path, schedule=BF16), vit, metric, "search")
    for name in ("channels", "heads", "neurons"):
        one, other = (getattr(scores, name).flatten() for scores in (exact, half))
        assert not torch.equal(one, other)
        assert spearmanr(one, other).statistic > 0.9, name


def test_bfloat16_measures_nearly_the_same_accuracies():
    vit, split = tiny(), Blobs(96)
    space = ProductSpace.eavit(vit.backbone, 0.5)
    for submodel in (space.smallest, space.largest):
        exact, half = (score_on(split, ACCURACY, vit, submodel, execution=run) for run in (PLAIN, Execution("bf16")))
        assert abs(exact - half) <= 0.1
        assert score_on(split, ACCURACY, vit, submodel, execution=Execution(micro_batch=5)) == exact


def test_float32_on_a_cpu_orders_and_chooses_as_ever(tmp_path):
    run = TinyTask(tmp_path, schedule=SCHEDULE | {"epochs": 2.0})
    vit = start(run)
    before = vit.cls_token[0, 0].clone()
    assert [int((before == value).nonzero()) for value in prepare(run, vit, "taylor").cls_token[0, 0]] == ORDER
    adapted = ea_vit(search={"population": 4, "generations": 1}).adapt(run)
    assert [choice and str(choice) for choice in map(adapted.select, run.budgets)] == CHOICES
