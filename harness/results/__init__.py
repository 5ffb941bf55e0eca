"""The store: whole cells on disk, their records and points, checksums and maintenance."""
