"""Cells to outcomes, on this machine or on a cluster."""
