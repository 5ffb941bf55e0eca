"""The two values that all other modules share: a backbone's full widths, and the widths that a submodel keeps."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

from eavit.model.arguments import described, whole_number, whole_numbers

MAX_LAYERS = 10_000  # a text that asks for more is a mistake, and must not fill the memory
_MAY_BE_ZERO = ("num_classes", "prefix_tokens", "position_tokens", "outer_norms")
_FORM = re.compile(r"e(\d+)-h([\d.x]+)-m([\d.x]+)")


def _pack(counts: tuple[int, ...]) -> str:
    runs = [(value, len(list(run))) for value, run in groupby(counts)]
    return ".".join(f"{value}x{length}" if length > 1 else str(value) for value, length in runs)


def _unpack(text: str, whole: str) -> tuple[int, ...]:
    counts: list[int] = []
    for run in text.split("."):
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", run)
        if match is None:
            raise ValueError(f"submodel {whole!r}: {run!r} is not a width or <width>x<layers>, such as 6 or 6x12")
        layers = int(match[2] or 1)
        if len(counts) + layers > MAX_LAYERS:
            raise ValueError(f"submodel {whole!r}: {run!r} makes more than {MAX_LAYERS} layers")
        counts += [int(match[1])] * layers
    return tuple(counts)


@dataclass(frozen=True, slots=True)
class Submodel:
    """Widths kept of a nested ViT: always the *first* channels, heads and neurons.

    Absolute counts, never ratios. A zero skips the branch with its bias, so there is one spelling for each function;
    equality and hashing follow from that. ``str(s)``, such as ``e384-h6x12-m1536x10.0x2``, and :meth:`parse` are
    inverses.
    """

    embed: int  # channels of the residual stream, the same in all layers
    heads: tuple[int, ...]  # whole heads kept in each layer; 0 skips the attention branch
    mlp: tuple[int, ...]  # hidden neurons kept in each layer; 0 skips the MLP branch

    def __post_init__(self) -> None:
        object.__setattr__(self, "embed", whole_number("submodel: embed", self.embed, 1))
        for name in ("heads", "mlp"):
            object.__setattr__(self, name, whole_numbers(f"submodel: {name}", getattr(self, name), 0))
        if not self.heads or len(self.heads) != len(self.mlp):
            raise ValueError(
                f"submodel: {len(self.heads)} layers of heads but {len(self.mlp)} of mlp; both need one each"
            )

    @classmethod
    def parse(cls, text: str) -> Submodel:
        """Read ``e384-h6x12-m1536x10.0x2``: embed, then run-length heads, then run-length hidden widths."""
        match = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            kind = ValueError if isinstance(text, str) else TypeError
            raise kind(f"not a submodel: {text!r}; the form is e<embed>-h<heads>-m<hidden>, as e384-h6x12-m1536x12")
        return cls(int(match[1]), _unpack(match[2], text), _unpack(match[3], text))

    @classmethod
    def of(cls, widths: Submodel | str) -> Submodel:
        """A submodel as it is, or the one that a key spells."""
        if isinstance(widths, str):
            return cls.parse(widths)
        if not isinstance(widths, cls):
            raise TypeError(f"submodel is {described(widths)}; must be a Submodel or its key, as e384-h6x12-m1536x12")
        return widths

    @property
    def depth(self) -> int:
        """Number of layers, skipped ones included."""
        return len(self.heads)

    def __str__(self) -> str:
        return f"e{self.embed}-h{_pack(self.heads)}-m{_pack(self.mlp)}"

    def __le__(self, other: Submodel) -> bool:
        """Nesting: every slice of ``self`` lies inside the slice of ``other``."""
        if not isinstance(other, Submodel):
            return NotImplemented
        if self.depth != other.depth:
            return False
        pairs = zip((self.embed, *self.heads, *self.mlp), (other.embed, *other.heads, *other.mlp), strict=True)
        return all(mine <= theirs for mine, theirs in pairs)

    def meet(self, other: Submodel) -> Submodel:
        """The largest submodel nested in both."""
        other = Submodel.of(other)
        if self.depth != other.depth:
            raise ValueError(f"submodels of {self.depth} and {other.depth} layers have no common submodel")
        return Submodel(
            min(self.embed, other.embed),
            tuple(map(min, self.heads, other.heads)),
            tuple(map(min, self.mlp, other.mlp)),
        )


@dataclass(frozen=True, slots=True)
class Backbone:
    """Full widths of a pretrained ViT, and what its cost depends on besides widths."""

    embed: int
    heads: int  # of each layer
    head_dim: int
    mlp: int  # hidden neurons of each layer
    depth: int
    tokens: int  # patches + prefix at the backbone's own image size
    num_classes: int  # 0: features, no head
    patch_pixels: int = 768  # input values of one patch: channels * height * width
    prefix_tokens: int = 1  # class token + registers
    position_tokens: int = 197  # rows of the position table; 0: none
    patch_bias: bool = True
    qkv_bias: bool = True
    proj_bias: bool = True  # of attention's output and of both MLP layers, one switch as in timm
    qk_norm: bool = False
    layer_scale: bool = False
    outer_norms: int = 1  # full-width LayerNorms outside the blocks: norm_pre, norm, fc_norm
    k_bias: bool = True  # keys have a bias where queries and values have one
    gated_mlp: bool = False  # two rows for each hidden neuron
    attn_norm: bool = False  # a LayerNorm over the heads' outputs
    mlp_norm: bool = False  # a LayerNorm over the hidden neurons
    classifiers: int = 1  # heads of as many classes: 2 in a distilled DeiT
    head_tokens: int = 1  # vectors that a head reads: all tokens where none are pooled

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                if type(value) is not bool:
                    raise TypeError(f"backbone: {field.name} is {described(value)}; must be True or False")
                continue
            least = 0 if field.name in _MAY_BE_ZERO else 1
            object.__setattr__(self, field.name, whole_number(f"backbone: {field.name}", value, least))

    @classmethod
    def of(cls, owner: Any) -> Backbone:
        """A backbone as it is, or that of an object which has one, such as a nested ViT."""
        backbone = getattr(owner, "backbone", owner)
        if not isinstance(backbone, cls):
            raise TypeError(
                f"backbone is {described(owner)}; must be a Backbone, such as NestedViT.from_timm(model).backbone"
            )
        return backbone

    @property
    def full(self) -> Submodel:
        """The submodel of all widths."""
        return Submodel(self.embed, (self.heads,) * self.depth, (self.mlp,) * self.depth)

    @property
    def patches(self) -> int:
        """Tokens that are patches."""
        return self.tokens - self.prefix_tokens

    def check(self, submodel: Submodel | str) -> Submodel:
        """The submodel; ValueError unless this backbone contains it."""
        submodel = Submodel.of(submodel)
        if submodel.depth != self.depth:
            raise ValueError(f"submodel {submodel} has {submodel.depth} layers, the backbone has {self.depth}")
        if not submodel <= self.full:
            raise ValueError(f"submodel {submodel} is not nested in the backbone {self.full}")
        return submodel
