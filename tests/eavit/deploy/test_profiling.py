"""A profile of a simulated device finds its parts, and says how well it predicts what it has not seen."""

from dataclasses import replace

import pytest
import torch

from eavit.deploy import profiling as module
from eavit.deploy.latency import Setting
from eavit.deploy.profiling import (
    Unadapted,
    callable_of,
    fitted,
    measure_submodels,
    profile_latency,
    quiet_threads,
    spread_widths,
    whole_submodels,
)
from eavit.deploy.timing import Timing
from eavit.space.product import ProductSpace
from tests.eavit.deploy.test_latency import device
from tests.eavit.deploy.test_latency import profile as profile_of_parts
from tests.eavit.families import KEYS, family
from tests.eavit.small import plain, tiny


@pytest.fixture
def simulated(monkeypatch):
    """Measurements that are those of a device whose parts add up, and what was measured."""
    seen = []

    def measure(elastic, submodels, setting, seconds=5.0):
        seen.extend(submodels)
        return {s: Timing(device(s), 0.01, 10, 0.0) for s in submodels}

    monkeypatch.setattr(module, "measure_submodels", measure)
    return seen


def test_a_device_whose_parts_add_up_is_predicted(simulated):
    profile = profile_latency(family(), seconds=1)
    assert profile.median_error < 0.01
    assert profile.rank_correlation > 0.99
    assert profile.noise["busy"] == 0
    assert [pace for _, pace in profile.pace] == pytest.approx([1] * len(profile.pace), abs=0.05)


def test_a_cache_that_large_submodels_overflow_is_learnt():
    space, table = ProductSpace.eavit(family().backbone), profile_of_parts()
    measured = {s: table.sum_of_parts(s) ** 1.3 for s in whole_submodels(space, 40, seed=0)}
    found = fitted(table, measured, {})
    assert found.median_error < 0.05
    assert replace(found, pace=()).latency_ms(space.largest) != pytest.approx(measured[space.largest], rel=0.1)
    assert found.latency_ms(space.largest) == pytest.approx(measured[space.largest], rel=0.1)


def test_held_out_submodels_were_not_used(simulated):
    profile = profile_latency(family(), seconds=1)
    assert len(profile.held_out) >= 5
    assert len({key for key, *_ in profile.held_out}) == len(profile.held_out)
    assert set(simulated) >= {family().backbone.check(key) for key, *_ in profile.held_out}


def test_the_table_covers_the_space_and_the_members(simulated):
    profile, b = profile_latency(family(), seconds=1), family().backbone
    space = ProductSpace.eavit(b)
    assert profile.embeds[0] <= min(space.embeds)
    assert (profile.embeds[-1], profile.heads[-1], profile.mlps[-1]) == (b.embed, b.heads, b.mlp)


def test_widths_are_spread_with_both_ends():
    assert spread_widths([1, 2, 3, 4, 5, 6, 7], 3) == (1, 4, 7)
    assert spread_widths([5, 3], 4) == (3, 5)
    assert spread_widths([2], 4) == (2,)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_real_submodels_are_run(runtime):
    if runtime == "onnxruntime":
        pytest.importorskip("onnxruntime")
    elastic = family()
    out = callable_of(elastic, elastic.backbone.check(KEYS[1]), Setting(runtime, 1, 2))()
    logits = torch.as_tensor(out[0] if isinstance(out, list) else out)
    assert torch.allclose(logits, elastic(torch.zeros(2, 1, 4, 4), KEYS[1]), atol=1e-5)


def test_a_larger_submodel_takes_longer():
    from eavit.weights import pico

    elastic = family()
    elastic.vit = type(elastic.vit).from_timm(pico(10).eval())
    b = elastic.backbone
    small = b.check("e16-h1.0x5-m16.0x5")
    timings = measure_submodels(elastic, [small, b.full], Setting(batch=8), seconds=0.2)
    assert timings[small].median_ms < timings[b.full].median_ms


def test_threads_are_as_before_afterwards():
    before = torch.get_num_threads()
    with quiet_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"runtime": "tensorrt"}, "option runtime='tensorrt' is unknown; allowed: torch, onnxruntime"),
        ({"threads": 0}, "option threads=0"),
        ({"batch": 1.5}, "option batch=1.5"),
    ],
)
def test_bad_settings_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        profile_latency(family(), **arguments)


def test_a_machine_that_slows_down_between_sessions_does_not_bend_the_table(monkeypatch):
    pace = iter([1.0, 1.7, 1.2, 2.0, 1.0, 1.4, 1.9])

    def measure(elastic, submodels, setting, seconds=5.0):
        slow = next(pace)
        return {s: Timing(device(s) * slow, 0.01, 10, 0.0) for s in submodels}

    monkeypatch.setattr(module, "measure_submodels", measure)
    assert profile_latency(family(), seconds=1).median_error < 0.01


@pytest.mark.parametrize("model", [plain(), tiny()], ids=["timm", "nested"])
def test_a_vit_that_is_not_adapted_yet_has_a_profile(simulated, model):
    profile = profile_latency(model, seconds=1)
    profile.check(family().backbone)
    assert profile.median_error < 0.01
    assert (profile.embeds[0], profile.heads[0], profile.mlps[0]) == (3, 1, 3)  # as narrow as members may get
    assert callable_of(Unadapted(model), tiny().backbone.full, Setting(batch=2))().shape == (2, 3)
