"""The bench: suites, cells, records, tables and plots. It knows methods only by :mod:`harness.protocol`."""
