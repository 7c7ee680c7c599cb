"""Trained models on disk: loading them from any format, and packing them into one small file."""
