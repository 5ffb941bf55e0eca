"""The table of methods: each a recipe of space, step plan and selector, named in suites by import string.

All start from :func:`eavit.training.prepare.prepare`. What one method gets, every other gets: probe, order, data order,
optimiser and schedule family. One file a family; this file only passes names on, so that the digest of a method's code
(a part of its cells' ids) covers its own family alone.
"""

from eavit.methods.autoformer import autoformer
from eavit.methods.dynabert import dynabert
from eavit.methods.ea_vit import ea_vit
from eavit.methods.ea_vit_plus import ea_vit_plus
from eavit.methods.fixed import fixed_random_start, fixed_same_shape, fixed_uniform, own_pretraining
from eavit.methods.flextron import flextron
from eavit.methods.hydravit import hydravit
from eavit.methods.matformer import matformer
from eavit.methods.ofa import ofa
from eavit.methods.pruned import pruned
from eavit.methods.published import ea_vit_published
from eavit.methods.sandwich import sandwich
from eavit.methods.scala import scala
from eavit.methods.selected import selected, trained_alone
from eavit.methods.snapvit import snapvit
from eavit.methods.sortednet import sortednet
from eavit.methods.untrained import slice_untrained

__all__ = [
    "autoformer",
    "dynabert",
    "ea_vit",
    "ea_vit_plus",
    "ea_vit_published",
    "fixed_random_start",
    "fixed_same_shape",
    "fixed_uniform",
    "flextron",
    "hydravit",
    "matformer",
    "ofa",
    "own_pretraining",
    "pruned",
    "sandwich",
    "scala",
    "selected",
    "slice_untrained",
    "snapvit",
    "sortednet",
    "trained_alone",
]
