"""What ``StorageBackend`` does for a backend that has only the ten abstract methods."""
