"""Reads sequences from disk: from a tree of pickled arrays, or a folder of ArrayRecord files."""
