"""Trained models on disk: loading them, whatever wrote them, and packing them into one small file."""
