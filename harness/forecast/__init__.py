"""Forecast of the cost of a suite before it runs."""
