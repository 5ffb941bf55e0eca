"""The self-contained HTML page of a suite."""
