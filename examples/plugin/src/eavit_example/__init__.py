"""A method and a data set for eavit-bench, outside of its packages."""
