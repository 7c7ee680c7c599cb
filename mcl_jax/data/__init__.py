"""The sequences of a dataset: storing them, preparing them from downloads, and feeding them into batches."""
