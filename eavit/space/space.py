"""The interface of a search space: what samplers, searches, selectors and routers may ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from eavit.model.cost import Measure
from eavit.model.submodel import Backbone, Submodel
from eavit.space.members import Genes, Widths
from eavit.space.product import ProductSpace

if TYPE_CHECKING:
    from abc import ABCMeta as ProtocolMeta
else:
    ProtocolMeta = type(Protocol)


class _Factories(ProtocolMeta):
    """Factories of the class ``Space`` that are no part of the interface, so that other spaces need not have them."""

    @staticmethod
    def eavit(backbone: Backbone, min_depth: float = 0.0, multiple_of: int = 1) -> ProductSpace:
        """The paper's space: see :meth:`eavit.space.product.ProductSpace.eavit`."""
        return ProductSpace.eavit(backbone, min_depth, multiple_of)


class Space(Protocol, metaclass=_Factories):
    """A set of submodels of one backbone, with a largest member that contains all others.

    A member's code is a row of integers (genes), each below its ``gene_sizes``; the first one is the embedding's in
    spaces that have one. Equal members have equal codes.
    """

    @property
    def backbone(self) -> Backbone: ...
    @property
    def embeds(self) -> Widths:
        """Embedding widths of the members, ascending."""

    @property
    def heads(self) -> Widths:
        """Head counts of the members' attention branches, ascending, without 0."""

    @property
    def mlps(self) -> Widths:
        """Hidden widths of the members' MLP branches, ascending, without 0."""

    @property
    def min_attn(self) -> int:
        """Fewest attention branches of any member."""

    @property
    def min_mlp(self) -> int:
        """Fewest MLP branches of any member."""

    @property
    def largest(self) -> Submodel: ...
    @property
    def smallest(self) -> Submodel:
        """One of the members with the fewest MACs."""

    @property
    def count(self) -> int:
        """Configurations as the literature counts them: the width of a skipped branch counts too."""

    @property
    def distinct(self) -> int:
        """Number of different members."""

    def contains(self, submodel: Submodel | str) -> bool: ...
    def require(self, submodel: Submodel | str) -> Submodel:
        """The submodel itself; ValueError unless it is a member."""

    def narrower(self, submodel: Submodel) -> Iterator[Submodel]:
        """Members one step below; repeated, every path ends at a member that costs what ``smallest`` costs."""

    def wider(self, submodel: Submodel) -> Iterator[Submodel]:
        """Members one step above; repeated, every path ends at ``largest``."""

    def sample(self, rng: np.random.Generator) -> Submodel:
        """A random member, uniform over configurations."""

    def near(self, target: float, rng: np.random.Generator, measure: Measure | None = None) -> Submodel:
        """A random member whose size by a measure, MACs unless said otherwise, comes close to ``target``."""

    @property
    def gene_sizes(self) -> Genes:
        """Number of values of each gene."""

    def genes(self, submodel: Submodel) -> Genes:
        """The code of a member."""

    def from_genes(self, genes: Sequence[int] | Genes) -> Submodel:
        """The member with this code; ValueError unless the genes lie within ``gene_sizes``."""
