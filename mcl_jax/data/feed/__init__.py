"""Makes batches of frames from sequences on disk."""
