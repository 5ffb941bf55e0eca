"""A package by name: an installed distribution brings a top-level `tests` of its own, which would be found first."""
