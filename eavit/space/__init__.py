"""Search spaces: which submodels are allowed, and how to draw, count, encode and bound them."""
