"""Defaults follow the weights and the data."""

import pytest

from eavit.adaptation.defaults import data_config, epochs_for, learning_rate_for
from tests.eavit.small import plain


def test_few_images_get_many_epochs():
    assert [epochs_for(n) for n in (10, 1_000, 2_000, 8_001, 10**7)] == [20, 20, 12, 5, 5]


def test_wider_models_get_lower_rates():
    rates = [learning_rate_for(width) for width in (96, 192, 384, 768, 1024)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 1e-5


def test_preprocessing_is_that_of_the_weights_at_the_models_size():
    model = plain()
    model.pretrained_cfg = {"input_size": (3, 224, 224), "mean": (0.1, 0.2, 0.6), "std": (0.5,) * 3, "crop_pct": 0.9}
    config = data_config(model, {})
    assert config["input_size"] == [1, 4, 4]
    assert config["mean"] == [pytest.approx(0.3)]
    assert (config["std"], config["crop_pct"], config["interpolation"]) == ([0.5], 0.9, "bicubic")
    assert data_config(model, {"mean": (0.7,)})["mean"] == [0.7]


def test_weights_that_say_nothing_get_plain_values():
    assert data_config(plain(), {})["mean"] == [0.5]
