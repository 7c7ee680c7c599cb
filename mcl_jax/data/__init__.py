"""Datasets: storing sequences, preparing them from downloads, and making batches of them."""
