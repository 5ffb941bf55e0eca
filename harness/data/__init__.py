"""Data sets: sources, decoding, division into splits, batches."""
