"""Reproduces a published run: checks the dataset, gets the weights, tests, and compares the figures."""
