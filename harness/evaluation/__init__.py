"""Execution of one cell: task, ledger, measurements, sanity checks."""
