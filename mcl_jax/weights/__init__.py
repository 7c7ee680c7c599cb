"""Trained models on disk: loads them from any format, and packs them into one small file."""
