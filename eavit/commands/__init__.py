"""Verbs of the command line ``eavit``."""
