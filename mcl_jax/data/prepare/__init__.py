"""Prepares downloaded datasets: turns raw frames into the sequences that training reads."""
