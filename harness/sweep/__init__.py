"""Runs the cells of a plan that are missing, as jobs, and keeps what comes of them."""
