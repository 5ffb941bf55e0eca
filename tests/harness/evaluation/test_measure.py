from __future__ import annotations

import logging
import random
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from eavit.deploy import timing
from harness.data import batches, images
from harness.evaluation import measure

VIT_B_MACS = 17_563_828_224


def tiny_vit(**more) -> VisionTransformer:
    torch.manual_seed(0)
    options = {"img_size": 28, "patch_size": 7, "in_chans": 1, "embed_dim": 24, "depth": 2, "num_heads": 3}
    return VisionTransformer(**{**options, "num_classes": 5, **more})


def split_of(n: int, classes: int = 5) -> batches.MemorySplit:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, classes, (n,), generator=generator)
    made = images.Images(pixels, labels, tuple(map(str, range(classes))), tuple(bytes([i]) for i in range(n)))
    return batches.MemorySplit(made, (0.5,), (0.5,))


def vit_macs(tokens: int, patches: int, pixels: int, embed: int, depth: int, mlp: int, classes: int) -> int:
    """Every product of a plain ViT by hand: patches, qkv, q k, a v, projection, two of the MLP, head."""
    block = tokens * embed * 3 * embed + 2 * tokens * tokens * embed + tokens * embed * embed + 2 * tokens * embed * mlp
    return patches * pixels * embed + depth * block + embed * classes


def test_vit_b_by_count_witness_and_hand():
    with torch.device("meta"):
        big = timm.create_model("vit_base_patch16_224", num_classes=1000)
    assert measure.count_macs(big, (3, 224, 224)) == VIT_B_MACS
    assert vit_macs(197, 196, 768, 768, 12, 3072, 1000) == VIT_B_MACS
    assert measure.count_params(big) == 86_567_656


@settings(max_examples=12)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 40),
    st.sampled_from([7, 14]),
    st.sampled_from(["token", "avg"]),
    st.booleans(),
    st.integers(0, 2),
)
def test_counter_witness_and_hand_agree(depth, heads, mlp, patch, pool, bias, registers):
    embed = 8 * heads
    vit = tiny_vit(
        embed_dim=embed,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp / embed,
        patch_size=patch,
        global_pool=pool,
        class_token=pool == "token",
        qkv_bias=bias,
        reg_tokens=registers,
    )
    patches = (28 // patch) ** 2
    tokens = patches + (pool == "token") + registers
    counted = measure.count_macs(vit, (1, 28, 28))
    assert counted == measure.fvcore_macs(vit, (1, 28, 28))
    assert counted == vit_macs(tokens, patches, patch * patch, embed, depth, int(embed * (mlp / embed)), 5)


def test_fused_and_plain_attention_count_the_same():
    vit = tiny_vit()
    fused = measure.count_macs(vit, (1, 28, 28))
    for block in vit.blocks:
        assert block.attn.fused_attn
        block.attn.fused_attn = False
    assert measure.count_macs(vit, (1, 28, 28)) == measure.fvcore_macs(vit, (1, 28, 28)) == fused


def test_other_layers_count_the_same():
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, groups=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5, bias=False),
    )
    expected = 28 * 28 * 6 * 9 + 26 * 26 * 6 * 2 * 9 + 24 * 5
    assert measure.count_macs(net, (1, 28, 28)) == measure.fvcore_macs(net, (1, 28, 28)) == expected


def test_counting_changes_nothing(caplog):
    vit = tiny_vit(drop_path_rate=0.5).train()
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        measure.count_macs(vit, (1, 28, 28))
        measure.fvcore_macs(vit, (1, 28, 28))
    assert vit.training
    assert next(vit.parameters()).device.type == "cpu"
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    assert not caplog.records


def test_a_module_that_looks_at_its_data_cannot_be_counted():
    class Peeks(nn.Module):
        def forward(self, x):
            return x if float(x.sum().item()) > 0 else -x

    with pytest.raises(measure.MeasureError, match="Peeks cannot be counted"):
        measure.count_macs(Peeks(), (1, 4, 4))


def test_params():
    assert measure.count_params(nn.Linear(3, 4)) == 16


@pytest.mark.parametrize("batch", [1, 7, 50, 64])
def test_correct_is_one_bit_an_image_in_order(batch):
    vit, split = tiny_vit().train(), split_of(50)
    bits = measure.split_outputs(vit, split, batch).correct
    vit.eval()
    with torch.no_grad():
        expected = vit(next(split.batches(50))[0]).argmax(1) == split.labels
    assert (bits.dtype, bits.shape) == (np.bool_, (50,))
    assert bits.tolist() == expected.tolist()


def test_training_flags_come_back():
    vit = tiny_vit().train()
    vit.blocks[0].eval()
    flags = [part.training for part in vit.modules()]
    measure.split_outputs(vit, split_of(4), 2)
    assert [part.training for part in vit.modules()] == flags
    with pytest.raises(measure.MeasureError):
        measure.split_outputs(tiny_vit(num_classes=3), split_of(4), 2)


def test_a_split_that_loses_images_is_refused():
    class Loses(batches.MemorySplit):
        def batches(self, size, *, seed=None, epoch=0):
            return (pair for i, pair in enumerate(super().batches(size)) if i)

    whole = split_of(10)
    short = Loses(images.Images(whole._pixels, whole.labels, whole.classes, ()), (0.5,), (0.5,))
    with pytest.raises(measure.MeasureError, match="5 images came out of a split of 10"):
        measure.split_outputs(tiny_vit(), short, 5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_answer(bad):
    vit = tiny_vit()
    with torch.no_grad():
        vit.head.bias[0] = bad
    for use in (
        lambda: measure.split_outputs(vit, split_of(4), 2),
        lambda: measure.predictions_agree(vit, split_of(4)),
    ):
        with pytest.raises(FloatingPointError):
            use()


@pytest.mark.parametrize("output", [lambda x: x.flatten(1), lambda x: x.mean(), lambda x: [x]])
def test_outputs_that_are_no_logits_are_refused(output):
    class Wrong(nn.Module):
        def forward(self, x):
            return output(x)

    with pytest.raises(measure.MeasureError, match="must give logits"):
        measure.split_outputs(Wrong(), split_of(4), 2)


def test_predictions_agree_for_a_plain_vit_and_not_for_one_that_mixes_images():
    class Mixes(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = tiny_vit()

        def forward(self, x):
            logits = self.vit(x)
            return logits - logits.mean(0) + torch.eye(5)[len(x) % 5]

    assert measure.predictions_agree(tiny_vit(), split_of(100))
    assert measure.predictions_agree(tiny_vit(), split_of(10), batches=(3, 64), limit=None)
    assert not measure.predictions_agree(Mixes(), split_of(100))


def test_constant_logits_in_one_batch_size_alone_are_no_tie():
    """A module that centres by the batch mean has equal logits for every class at batch 1, and others at 64."""

    class Centred(nn.Module):
        def forward(self, images):
            flat = images.flatten(1)[:, :5]
            return flat - flat.mean(0, keepdim=True)

    assert not measure.predictions_agree(Centred(), split_of(100))


def test_a_tie_is_no_disagreement():
    class Tied(nn.Module):
        def forward(self, x):
            logits = torch.zeros(len(x), 5)
            logits[:, 1 if len(x) == 1 else 2] = 1e-7
            return logits

    assert measure.predictions_agree(Tied(), split_of(20))


class Clock:
    """A clock that calls move on by scripted seconds, and a count of interruptions, for both timers."""

    def __init__(self, monkeypatch, module):
        self.now, self.switches, self.order, self.rng = 0.0, 0, [], random.Random(7)
        for name in ("perf_counter", "process_time"):
            monkeypatch.setattr(module.time, name, lambda: self.now)
        monkeypatch.setattr(module.resource, "getrusage", lambda who: SimpleNamespace(ru_nivcsw=self.switches))

    def run(self, name, seconds):
        self.order.append(name)
        hit = self.rng.random() < 0.2
        self.switches += hit
        self.now += seconds * self.rng.uniform(0.9, 1.2) * (5 if hit else 1)


class Scripted(nn.Module):
    def __init__(self, clock, name, seconds):
        super().__init__()
        self.clock, self.name, self.seconds = clock, name, seconds

    def forward(self, x):
        self.clock.run(self.name, self.seconds)

    def extra_repr(self):
        return self.name


SECONDS = {"slow": 0.04, "fast": 0.002, "middle": 0.011}


def test_latency_is_that_of_the_timer_of_the_library(monkeypatch):
    """The bench and ``eavit profile`` must not import each other: one protocol, written twice, held together here."""
    clock = Clock(monkeypatch, measure)
    mine = measure.latencies({n: Scripted(clock, n, s) for n, s in SECONDS.items()}, (1, 2, 2), seconds=2.0, seed=3)
    other = Clock(monkeypatch, timing)
    theirs = timing.time_calls({n: partial(other.run, n, s) for n, s in SECONDS.items()}, 2.0, 3)
    assert clock.order == other.order
    for name, timed in theirs.items():
        assert mine[name].median_ms == pytest.approx(timed.median_ms, abs=0)
        assert (mine[name].spread, mine[name].disturbed) == pytest.approx((timed.spread, timed.disturbed))
    assert mine["slow"].median_ms > 10 * mine["fast"].median_ms


def test_less_time_is_fewer_calls_of_each_module(monkeypatch):
    def calls(seconds):
        clock = Clock(monkeypatch, measure)
        modules = {name: Scripted(clock, name, each) for name, each in (("long", 0.002), ("short", 0.001))}
        measure.latencies(modules, (1, 2, 2), seconds=seconds)
        return {name: clock.order.count(name) for name in modules}

    least = measure.WARM_UP + measure.FEWEST_ROUNDS * 3
    assert calls(0.01) == {"long": least, "short": least}
    assert min(calls(1.0).values()) > 5 * least


def test_equal_modules_get_equal_latencies():
    first, second, other = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
    timed = measure.latencies({"a": first.train(), "b": second, "c": other}, (1, 4, 4), seconds=0.01)
    assert timed["a"] == timed["b"] != timed["c"]
    assert first.training
    assert measure.latency_noise(timed).keys() == {"latency_spread", "latency_disturbed"}
    assert measure.latency_noise({}) == {}


def test_processor_time_is_measured_with_one_thread_and_wall_time_with_more():
    class Sleeps(nn.Module):
        def forward(self, x):
            time.sleep(0.005)

    def found(threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return measure.latencies({"a": Sleeps()}, (1, 4, 4), seconds=0.01)["a"].median_ms
        finally:
            torch.set_num_threads(before)

    assert found(1) < 4 < 5 <= found(2)


def several_of(n: int) -> batches.MemorySplit:
    plain = split_of(n)
    labels = torch.nn.functional.one_hot(plain.labels, 5)
    made = images.Images(plain._pixels, labels, plain.classes, tuple(bytes([i]) for i in range(n)))
    return batches.MemorySplit(made, (0.5,), (0.5,))


def test_logits_of_all_images_in_order(monkeypatch):
    vit, split = tiny_vit().eval(), several_of(20)
    with torch.no_grad():
        whole = torch.cat([vit(x) for x, _ in split.batches(7)])
    torch.testing.assert_close(measure.split_outputs(vit, split, 20).logits, whole)
    monkeypatch.setattr(split, "batches", lambda size: [(torch.zeros(13, 1, 28, 28), torch.zeros(13, 5))])
    with pytest.raises(measure.MeasureError, match="13 images came out of a split of 20"):
        measure.split_outputs(vit, split, 7)


def test_of_several_labels_each_class_is_a_prediction():
    class Shifted(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.vit, self.by = tiny_vit(), by

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.vit(x) + self.by * (len(x) == 1)

    assert measure.predictions_agree(Shifted(0.0), several_of(20))
    assert not measure.predictions_agree(Shifted(5.0), several_of(20))
    assert measure.predictions_agree(Shifted(5.0), split_of(20)), "the same order of the classes"
