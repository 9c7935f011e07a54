"""Models: upload, look up, delete."""
