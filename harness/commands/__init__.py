"""The commands of `eavit-bench`: what a person asks for, and what is printed."""
