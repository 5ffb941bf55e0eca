"""One ViT of fixed widths that needs torch, timm and safetensors alone: the source of an exported ``model.py``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.layers import Attention, LayerNorm, Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor

SPEC: dict[str, Any] = {}
WEIGHTS = "model.safetensors"  # beside this file


class AttentionOnly(Block):
    """A timm block without its MLP branch."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        out: Tensor = x + self.ls1(self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal))
        return out


class MlpOnly(Block):
    """A timm block without its attention branch."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


def fit_block(block: Any, heads: int, hidden: int, spec: Mapping[str, Any]) -> None:
    """Give a timm block so many heads and hidden neurons, in place; a branch of no width is taken out."""
    options, width = spec["arguments"], spec["arguments"]["embed_dim"]
    if heads:
        names = ("qkv_bias", "qk_norm", "proj_bias")
        block.attn = Attention(
            width,
            num_heads=heads,
            attn_head_dim=spec["head_dim"],
            norm_layer=partial(LayerNorm, eps=spec["norm_eps"]),
            **{name: options[name] for name in names},
        )
    else:
        block.__class__ = MlpOnly
        del block.norm1, block.attn, block.ls1, block.drop_path1
    if hidden:
        block.mlp = Mlp(width, hidden, act_layer=type(block.mlp.act), bias=options["proj_bias"])
    else:
        block.__class__ = AttentionOnly
        del block.norm2, block.mlp, block.ls2, block.drop_path2


def create_vit(spec: Mapping[str, Any]) -> VisionTransformer:
    """A timm ViT of a specification, with uninitialised weights, in eval mode."""
    layers = [(heads, hidden) for heads, hidden in zip(spec["heads"], spec["mlp"], strict=True) if heads or hidden]
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in spec["arguments"].items()}
    norm = partial(LayerNorm, eps=spec["norm_eps"])
    vit = VisionTransformer(**options, depth=len(layers), num_heads=1, norm_layer=norm, weight_init="skip")
    for block, (heads, hidden) in zip(vit.blocks, layers, strict=True):
        fit_block(block, heads, hidden, spec)
    return vit.eval()


def load_model(folder: Path | str | None = None) -> VisionTransformer:
    """The exported model with its weights, in eval mode: images (b, channels, height, width) to logits."""
    vit = create_vit(SPEC)
    vit.load_state_dict(load_file(Path(folder or Path(__file__).parent) / WEIGHTS))
    return vit


def preprocessing() -> Any:
    """The transform from a PIL image to the tensor that the model takes."""
    from timm.data import create_transform

    return create_transform(**SPEC["data"])


def main(pictures: list[str]) -> None:
    """Print the class of each picture."""
    from PIL import Image

    model, transform = load_model(), preprocessing()
    mode = "L" if SPEC["data"]["input_size"][0] == 1 else "RGB"
    for picture in pictures:
        with torch.inference_mode():
            best = int(model(transform(Image.open(picture).convert(mode))[None]).argmax())
        print(f"{picture}: {SPEC['classes'][best] if SPEC['classes'] else best}")


if __name__ == "__main__":
    main(sys.argv[1:])
