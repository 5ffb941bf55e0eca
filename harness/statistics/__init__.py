"""Numbers with intervals, from plain values; no files."""
