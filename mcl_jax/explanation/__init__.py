"""Explains a distance between two walks: by part, by frame and by pixel."""
