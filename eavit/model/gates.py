"""Soft widths: one gate for each channel, head and neuron. The differentiable twin of a Submodel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eavit.model.arguments import floats
from eavit.model.submodel import Backbone, Submodel


def _prefixes(counts: Sequence[int], width: int, like: Tensor | None) -> Tensor:
    gates = torch.as_tensor(counts).unsqueeze(-1) > torch.arange(width)
    return gates.to(like) if like is not None else gates.to(torch.get_default_dtype())


@dataclass(frozen=True, slots=True)
class Masking:
    """Behaviour of closed gates in a masked pass. The default is that of slicing; other values are defects of EA-ViT's
    published training code, there to be measured (:mod:`eavit.methods.published`).
    """

    norm_over: Literal["kept", "all"] = "kept"  # "all": closed channels live on in the stream and count in LayerNorm
    skipped_bias: bool = False  # an MLP without an open gate still adds its output bias


EXACT = Masking()


@dataclass(frozen=True, slots=True)
class Gates:
    """Gates in [0, 1], non-increasing along their last axis, so that hard gates are always a prefix.

    The first gate of a layer's heads (or neurons) is that branch's depth gate: it scales the branch's output bias.
    """

    embed: Tensor  # (embed,)
    heads: Tensor  # (depth, heads)
    mlp: Tensor  # (depth, hidden)
    masking: Masking = EXACT
    reach: Submodel | None = None  # units past it have neither value nor gradient; None: not known

    def __post_init__(self) -> None:
        for name in ("embed", "heads", "mlp"):
            floats(f"gates: {name}", getattr(self, name))

    @classmethod
    def of(cls, submodel: Submodel | str, backbone: Backbone, like: Tensor | None = None) -> Gates:
        """The 0/1 gates of a submodel, with the dtype and device of ``like``."""
        backbone = Backbone.of(backbone)
        submodel = backbone.check(submodel)
        if like is not None:
            floats("like", like)
        return cls(
            _prefixes((submodel.embed,), backbone.embed, like).squeeze(0),
            _prefixes(submodel.heads, backbone.heads, like),
            _prefixes(submodel.mlp, backbone.mlp, like),
        )

    def check(self, backbone: Backbone) -> None:
        """Raise ValueError unless the gates have the backbone's widths."""
        b = Backbone.of(backbone)
        wanted = {"embed": (b.embed,), "heads": (b.depth, b.heads), "mlp": (b.depth, b.mlp)}
        shapes = {name: tuple(getattr(self, name).shape) for name in wanted}
        wrong = [f"{name} {shapes[name]}, must be {shape}" for name, shape in wanted.items() if shapes[name] != shape]
        if wrong:
            raise ValueError(f"gates do not fit the backbone: {'; '.join(wrong)}")

    def harden(self) -> Submodel:
        """The submodel of the gates above one half."""
        return Submodel(
            int((self.embed > 0.5).sum()),
            tuple((self.heads > 0.5).sum(-1).tolist()),
            tuple((self.mlp > 0.5).sum(-1).tolist()),
        )
