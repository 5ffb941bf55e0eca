"""Sanity checks that need weights: run on a sound method and on methods with one defect."""

from __future__ import annotations

import torch
from torch import nn

from harness.evaluation import sanity_checks
from harness.evaluation.check_names import OVERFIT, SLICED


class Split:
    num_classes = 4

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(32, 1, 4, 4, generator=generator)
        self.labels = torch.arange(32) % 4

    def __len__(self) -> int:
        return 32

    def batches(self, size, *, seed=None, epoch=0):
        yield self.images[:size], self.labels[:size]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 4)).eval()


class Adapted:
    """Answers with one network; ``shift`` is what the shared weights say differently."""

    def __init__(self, shift: float = 0.0) -> None:
        self.net, self.shift = network(), shift

    def module(self, choice: str) -> nn.Module:
        return self.net

    def logits(self, images: torch.Tensor, choice: str) -> torch.Tensor:
        return self.net(images) + self.shift


def test_a_sound_method_passes_and_is_left_as_it_was():
    adapted = Adapted()
    before = {name: value.clone() for name, value in adapted.net.state_dict().items()}
    drawn = torch.get_rng_state()
    assert sanity_checks.run_sanity_checks(adapted, {"small": "s", "large": "l"}, Split()) == {SLICED: "", OVERFIT: ""}
    assert all(torch.equal(before[name], value) for name, value in adapted.net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_another_answer_of_the_module_is_found():
    assert (
        sanity_checks.run_sanity_checks(Adapted(shift=0.01), {"large": "l"}, Split())[SLICED]
        == "large: logits differ by 0.01"
    )
    assert "nan" in sanity_checks.run_sanity_checks(Adapted(shift=float("nan")), {"large": "l"}, Split())[SLICED]


def test_weights_that_no_gradient_reaches_cannot_learn():
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.net(images).detach()

    images, labels = next(Split().batches(16))
    assert sanity_checks.overfit_one_batch(Cut(), images, labels, 4) == "no gradient reaches the weights"

    class Stuck(Cut):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.net(images).detach() + 0 * self.net(images)

    assert "40 steps on one batch took the loss" in sanity_checks.overfit_one_batch(Stuck(), images, labels, 4)


def test_nothing_to_train_and_nothing_to_compare_is_not_run():
    class Bare:
        def module(self, choice: str) -> nn.Module:
            return nn.Flatten()

    assert sanity_checks.run_sanity_checks(Bare(), {"a": "a"}, Split()) == {}
    assert sanity_checks.run_sanity_checks(Bare(), {}, Split()) == {}


def test_several_labels_are_replaced_by_their_opposites():
    images, labels = next(Split().batches(16))
    several = torch.nn.functional.one_hot(labels, 4).float()
    assert sanity_checks.overfit_one_batch(network(), images, several, 4) == ""
