"""Commands that work on the state or the storage of a configured service, served or not."""
