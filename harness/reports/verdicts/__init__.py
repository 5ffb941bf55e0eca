"""Verdicts on two methods, two result sets, or a claim."""
