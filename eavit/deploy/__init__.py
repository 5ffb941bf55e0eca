"""From an adapted family to a file: limits, saving and loading, latency, export and its check."""
