"""The table of methods: each a recipe of space, step plan and selector, named in suites by import string.

All start from the same place (:func:`eavit.prepare.prepare`). What one method gets, every other gets: probe, order,
data order, optimiser and schedule family. One file a family; this file only passes names on, so that the digest of a
method's code (a part of its cells' ids) covers its own family alone.
"""

from eavit.methods.ea_vit import ea_vit
from eavit.methods.fixed import fixed_same_shape, fixed_uniform
from eavit.methods.matformer import matformer
from eavit.methods.untrained import slice_untrained

__all__ = ["ea_vit", "fixed_same_shape", "fixed_uniform", "matformer", "slice_untrained"]
