"""What lies on disk or in object storage. TileDB is imported here alone, and its errors are translated here alone."""
