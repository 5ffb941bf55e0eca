"""A method, a data set, metrics and a selector for eavit-bench, outside of its packages."""
