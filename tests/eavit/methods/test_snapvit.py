"""SnapViT: its scores, its levels, its search, and what they cost."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from eavit.methods import snapvit as recipe_of
from eavit.methods.snapvit import (
    SEARCH_RATIOS,
    agreement_on,
    evolved,
    gradient_scores,
    multiplied,
    projection,
    pruning_level,
    pruning_levels,
    random_crops,
    view_loss,
)
from eavit.model import cost
from eavit.model.importance import Scores
from eavit.model.submodel import Backbone
from eavit.model.vit import NestedViT, extract
from tests.eavit.small import Blobs, TinyTask, plain, tiny

VIT_S = Backbone(384, 6, 64, 1536, 12, 17, 10)
FEW: dict[str, Any] = {"images": 20, "local_crops": 2, "search": {"evaluations": 9, "images": 12, "components": 4}}
BUDGETS = (0.05, 0.3, 0.4, 0.7, 1.0)


@dataclass(frozen=True)
class Wide(Blobs):
    """The images in float64."""

    def batches(self, size, *, seed=None, epoch=0):
        return ((x.double(), y) for x, y in super().batches(size, seed=seed, epoch=epoch))


def drawn_scores(backbone, seed=0):
    rng = np.random.default_rng(seed)
    rows = (rng.exponential(size=(backbone.depth, units)) for units in (backbone.heads, backbone.mlp))
    return Scores(torch.zeros(backbone.embed), *map(torch.from_numpy, rows))


def global_generator_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002  # that it is left alone is what is tested


# --- scores ----------------------------------------------------------------------------------------------------------


def test_scores_are_mean_squares_of_the_gradient_that_a_plain_model_has(tmp_path):
    """Scores by loops over images, views, units and weights, on timm's model with its head off."""
    vit = NestedViT.from_timm(plain(depth=2).double().eval())
    run = TinyTask(tmp_path, fit=Wide(20))
    scores = gradient_scores(run, vit, 20, 2)

    model, rng = plain(depth=2).double().eval(), np.random.default_rng([0, 13])
    model.reset_classifier(0)
    for images, _ in run.fit.batches(16):
        views = [random_crops(images, scale, rng) for scale in [(0.25, 1.0)] * 2 + [(0.05, 0.25)] * 2]
        loss = torch.zeros((), dtype=torch.float64)
        for image in range(len(images)):
            unit = [(z := model(view[image : image + 1])[0]) / z.norm() for view in views]
            for i in (0, 1):
                for j in range(4):
                    if i != j:
                        target = unit[i].detach().exp() / unit[i].detach().exp().sum()
                        loss = loss - (target * (unit[j].exp() / unit[j].exp().sum()).log()).sum() / len(images)
        loss.backward()
    b = vit.backbone
    for layer, block in enumerate(model.blocks):
        values, hidden = block.attn.qkv.weight.grad[2 * b.embed :], block.mlp.fc1.weight.grad
        heads = [(values[h * b.head_dim : (h + 1) * b.head_dim] ** 2).mean() for h in range(b.heads)]
        assert torch.allclose(scores.heads[layer], torch.stack(heads), rtol=1e-9, atol=0)
        assert torch.allclose(
            scores.neurons[layer], torch.stack([(row**2).mean() for row in hidden]), rtol=1e-9, atol=0
        )
    assert scores.heads.dtype == torch.float64 and scores.heads.min() > 0 and not scores.channels.any()


def test_the_loss_leaves_out_a_view_and_itself():
    """Each of two views alone teaches the other."""
    z = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    a, b = F.normalize(z, dim=-1)
    one = -(a.softmax(-1) * b.log_softmax(-1)).sum(-1) - (b.softmax(-1) * a.log_softmax(-1)).sum(-1)
    assert torch.allclose(view_loss(z), one.mean())


def test_each_view_is_a_crop_of_its_own_within_its_scale():
    """The span of the values is the crop's side, in an image whose pixels say where they are."""
    ramp = torch.linspace(0, 1, 64)
    images = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64)]).expand(30, 2, 64, 64)
    crops = random_crops(images, (0.05, 0.25), np.random.default_rng(0))
    across, down = (crops.amax((2, 3)) - crops.amin((2, 3))).unbind(1)
    area = (across * 63 + 1) * (down * 63 + 1) / 64**2
    assert crops.shape == images.shape and len({x.item() for x in across}) > 20
    assert 0.04 < area.min() < 0.1 < 0.2 < area.max() < 0.27
    assert 0.7 < (across / down).min() < 0.85 < 1.2 < (across / down).max() < 1.42
    assert random_crops(images[:1, :, :1, :1], (0.05, 0.25), np.random.default_rng(0)).shape == (1, 2, 1, 1)


# --- levels ----------------------------------------------------------------------------------------------------------


def test_levels_nest_and_end_at_the_least_widths():
    space = pruning_levels(VIT_S, drawn_scores(VIT_S), 33)
    assert space.count == 33 and space.closed and space.largest == VIT_S.full
    assert all(a <= b for a, b in pairwise(space.members))
    least = space.smallest
    assert (least.embed, min(least.mlp), min(least.heads)) == (384, 76, 1)  # 5 % of 1536 is 76.8
    assert (sum(least.mlp), sum(least.heads)) == (18432 - int(18432 * 0.95), 72 - int(72 * 0.8))
    assert cost.share(VIT_S, least) < 0.2


@pytest.mark.parametrize("ratio", SEARCH_RATIOS)
def test_a_level_keeps_what_scores_most_over_all_layers(ratio):
    """Prune the least of what is not protected, one by one in a loop."""
    scores, level = drawn_scores(VIT_S), pruning_level(VIT_S, drawn_scores(VIT_S), ratio)
    for rows, share, least, kept in (
        (scores.heads, ratio - 0.15, 1, level.heads),
        (scores.neurons, ratio, 76, level.mlp),
    ):
        free = sorted(
            (value, layer) for layer, row in enumerate(rows.tolist()) for value in sorted(row, reverse=True)[least:]
        )
        left = [rows.shape[1]] * len(rows)
        for _, layer in free[: int(rows.numel() * share + 1e-9)]:
            left[layer] -= 1
        assert tuple(left) == kept


def test_levels_cost_the_same_whatever_the_scores():
    """So the search's cost is known before it runs."""
    for ratio in (0.0, *SEARCH_RATIOS, 0.95):
        levels = [pruning_level(VIT_S, drawn_scores(VIT_S, seed), ratio) for seed in range(4)]
        assert len({cost.macs(VIT_S, level) for level in levels}) == 1 and (
            len(set(levels)) == 4 or not 0 < ratio < 0.9
        )


# --- search ----------------------------------------------------------------------------------------------------------


def test_multipliers_scale_layers_of_neurons_and_single_heads():
    scores = drawn_scores(tiny().backbone)
    factors = np.arange(-1.0, 14.0)  # 3 layers, 3 x 4 heads
    new = multiplied(scores, factors)
    assert torch.allclose(new.neurons, scores.neurons * torch.tensor([1.0, 0.0, 1.0])[:, None])
    assert torch.allclose(new.heads, scores.heads * torch.arange(2.0, 14.0).view(3, 4))


def test_the_search_finds_and_repeats_itself_and_leaves_numpy_s_generator_alone():
    before, calls = global_generator_state(), []

    def distance(vector):
        return float(((vector - 0.5) ** 2).sum())

    def fitness(place, vector):
        calls.append(place)
        return -distance(vector)

    first = np.linspace(1.2, 0.8, 10)
    best, value = evolved(fitness, first, 200, 0)
    assert calls == list(range(200)) and -value == distance(best) < 0.2 * distance(first)
    assert np.array_equal(best, evolved(fitness, first, 200, 0)[0])
    assert not np.array_equal(best, evolved(fitness, first, 200, 1)[0])
    assert np.array_equal(before, global_generator_state())


def test_agreement_is_the_mean_cosine_of_plain_models_embeddings():
    vit, x = tiny(), next(Blobs(24).batches(24))[0]
    scores = drawn_scores(vit.backbone)
    ordered = Scores(scores.channels, *(s.sort(dim=-1, descending=True).values for s in (scores.heads, scores.neurons)))

    def embedded(submodel):
        model = extract(vit, submodel).eval()
        return model.forward_head(model.forward_features(x), pre_logits=True)

    with torch.no_grad():
        full, levels = embedded(vit.backbone.full), [pruning_level(vit.backbone, ordered, r) for r in SEARCH_RATIOS]
        for components in (4, 12):  # of 12 channels
            mean = full.mean(0) if components < 12 else torch.zeros(12)
            axes = torch.linalg.eigh((full - mean).T @ (full - mean)).eigenvectors[:, -components:]
            parts = [F.cosine_similarity((embedded(s) - mean) @ axes, (full - mean) @ axes).mean() for s in levels]
            agreement = agreement_on(vit, lambda: iter(x.split(10)), components)
            assert agreement(ordered) == pytest.approx(float(torch.stack(parts).mean()), abs=1e-5)


def test_components_of_fewer_images_than_asked_are_all_there_are():
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    assert projection(x, 8)(x).shape == (5, 5) and projection(x, 12)(x) is x


# --- the method ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"select": "nsga2", "evaluations": 8}, {"nesting": "nested"}])
def test_choices_nest_and_fit(options, tmp_path):
    run = TinyTask(tmp_path, budgets=BUDGETS)
    adapted = recipe_of(**FEW, **options).adapt(run)
    chosen = [adapted.select(b) for b in BUDGETS]
    assert chosen[0] is None and run.ledger.steps == 0
    assert all(a <= b for a, b in pairwise(chosen[1:]))
    for budget, choice in zip(BUDGETS[1:], chosen[1:], strict=True):
        assert cost.share(adapted.vit.backbone, choice) <= budget
    assert chosen[-1] == adapted.vit.backbone.full or options.get("select") == "nsga2"


def test_the_ledger_is_charged_what_is_computed(tmp_path):
    """A probe on 96 images; 20 images in 4 views, three passes each; 9 evaluations of 4 levels on 12 images."""
    run = TinyTask(tmp_path)
    adapted = recipe_of(**FEW).adapt(run)
    b = adapted.vit.backbone
    full = cost.macs(b, b.full)
    levels = sum(cost.macs(b, pruning_level(b, drawn_scores(b), ratio)) for ratio in SEARCH_RATIOS)
    assert run.ledger.forward_macs == 96 * full + 20 * 4 * full + 12 * (full + 9 * levels)
    assert (run.ledger.backward_macs, run.ledger.images) == (2 * 20 * 4 * full, 96 + 20 + 12)


@pytest.mark.parametrize("options", [{}, {"select": "nsga2", "evaluations": 8}])
def test_with_equal_macs_gradients_and_search_see_as_few_images_as_are_paid_for(options, tmp_path):
    full, spent, seen = cost.macs(tiny().backbone, tiny().backbone.full), [], []
    every = {"images": 90, "local_crops": 1, "search": {"evaluations": 3, "images": 90}}
    for macs in (900.0 * full, 1e6 * full):
        (folder := tmp_path / str(len(spent))).mkdir()
        run = TinyTask(folder, train_macs=macs)
        seen.append(recipe_of(**every | options).adapt(run).report()["search_images"])
        spent.append(run.ledger.macs / macs)
    assert 0.9 < spent[0] <= 1.01 and seen[0] < seen[1] == 90 and spent[1] < 0.01


def test_labels_decide_nothing_but_the_head(tmp_path):
    @dataclass(frozen=True)
    class Mixed(Blobs):
        def batches(self, size, *, seed=None, epoch=0):
            return ((x, 2 - y) for x, y in super().batches(size, seed=seed, epoch=epoch))

    states, choices = [], []
    for name, fit in (("right", Blobs()), ("mixed", Mixed())):
        (folder := tmp_path / name).mkdir()
        adapted = recipe_of(**FEW).adapt(TinyTask(folder, fit=fit))
        states.append(adapted.vit.state_dict())
        choices.append([adapted.select(b) for b in BUDGETS])
    assert choices[0] == choices[1]
    same = {key for key in states[0] if torch.equal(states[0][key], states[1][key])}
    assert set(states[0]) - same == {"head.weight", "head.bias"}


def test_equal_seeds_give_equal_answers_and_others_others(tmp_path):
    ends = []
    for place, seed in enumerate((0, 0, 1)):
        (folder := tmp_path / str(place)).mkdir()
        adapted = recipe_of(**FEW).adapt(TinyTask(folder, seed=seed))
        ends.append((adapted.report()["weights"], adapted.report()["agreement"]))
    assert ends[0] == ends[1] != ends[2]


def test_without_evaluations_the_first_multipliers_rank(tmp_path):
    run = TinyTask(tmp_path)
    adapted = recipe_of(**FEW | {"search": {"evaluations": 0}}).adapt(run)
    assert "agreement" not in adapted.report() and adapted.select(0.7) is not None
    assert run.ledger.images == 96 + 20


def test_wrong_options_of_snapvit_are_named():
    for options, words in (
        ({"images": 0}, "option images=0"),
        ({"local_crops": -1}, "option local_crops=-1"),
        ({"levels": 1}, "option levels=1"),
        ({"search": {"evaluation": 5}}, "option search.evaluation is unknown; allowed: .*nearest: evaluations"),
        ({"search": {"evaluations": -1}}, "option search.evaluations=-1"),
        ({"search": {"components": 0}}, "option search.components=0"),
        ({"select": "grid"}, "option select='grid' is unknown"),
    ):
        with pytest.raises(ValueError, match=words):
            recipe_of(**options)
