"""What the core brings itself, registered through the same hooks as every plugin."""
