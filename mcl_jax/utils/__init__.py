"""Helpers that know nothing of gait: files, pickles, progress bars, text for terminals."""
