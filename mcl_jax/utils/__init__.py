"""Helpers unrelated to gait: files, pickles, progress bars, text for terminals."""
