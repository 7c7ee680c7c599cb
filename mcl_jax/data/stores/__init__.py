"""Where sequences lie on disk: a tree of pickled arrays, or a folder of ArrayRecord files."""
