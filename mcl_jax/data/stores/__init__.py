"""Reads sequences from a tree of pickled arrays or a folder of ArrayRecord files."""
