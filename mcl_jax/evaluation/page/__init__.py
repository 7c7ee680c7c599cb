"""Pages to look at, each one self-contained HTML file: a scored test set, and the curves of a training run."""
