"""Remote models: the table of published checkpoints, names of remote files, and downloads."""
