"""Tables of a suite and the comparisons that fill them."""
