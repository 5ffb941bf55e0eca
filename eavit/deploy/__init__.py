"""Deployment of an adapted family: limits, saving and loading, latency, export and its check."""
