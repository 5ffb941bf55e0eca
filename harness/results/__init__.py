"""The store: whole cells on disk, their records and points, leases and upkeep."""
