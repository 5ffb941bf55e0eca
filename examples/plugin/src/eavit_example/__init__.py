"""A method, a data set and metrics for eavit-bench, outside of its packages."""
