"""From sequences on disk to batches of frames."""
