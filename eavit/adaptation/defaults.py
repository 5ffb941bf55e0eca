"""Defaults of an adaptation: method, budgets, schedule, preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from eavit.options import nearest_hint

DEFAULT_METHOD = "ea_vit_plus"  # the one place that names it
BUDGETS = (0.2, 0.4, 0.6, 0.8, 1.0)
IMAGES_SEEN = 24_000  # that a training should show at least, within the two limits
FEWEST_EPOCHS, MOST_EPOCHS = 5, 20
LEARNING_RATES = ((128, 1e-3), (256, 3e-4), (512, 3e-5))  # up to this width; wider: the last
WIDEST_RATE = 1e-5  # EA-ViT's own, for ViT-B
MEAN_STD = 0.5  # of weights that do not say what their images looked like
DATA_KEYS = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")


def epochs_for(images: int) -> int:
    """Epochs over so many images: many over few, few over many.

    >>> epochs_for(1000), epochs_for(5000), epochs_for(1_000_000)
    (20, 5, 5)
    """
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, ceil(IMAGES_SEEN / images)))


def learning_rate_for(width: int) -> float:
    """Peak learning rate of AdamW for a pretrained ViT of so many channels."""
    return next((rate for limit, rate in LEARNING_RATES if width <= limit), WIDEST_RATE)


def data_config(model: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Preprocessing that the model's weights expect, by timm's names, at the model's own image size."""
    for key in changes:
        if key not in DATA_KEYS:
            raise ValueError(f"data {key} is unknown; allowed: {', '.join(DATA_KEYS)}{nearest_hint(key, DATA_KEYS)}")
    source = dict(getattr(model, "pretrained_cfg", None) or {})
    channels = model.patch_embed.proj.in_channels
    own = {
        "input_size": [channels, *model.patch_embed.img_size],
        "mean": _per_channel(source.get("mean", [MEAN_STD]), channels),
        "std": _per_channel(source.get("std", [MEAN_STD]), channels),
        "interpolation": source.get("interpolation", "bicubic"),
        "crop_pct": source.get("crop_pct", 1.0),
        "crop_mode": source.get("crop_mode", "center"),
    }
    return own | {key: list(value) if isinstance(value, tuple) else value for key, value in changes.items()}


def _per_channel(values: Any, channels: int) -> list[float]:
    """Values of each channel; of another number of channels their mean."""
    values = [float(value) for value in values]
    return values if len(values) == channels else [sum(values) / len(values)] * channels
