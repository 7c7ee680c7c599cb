"""Pages to look at, each one HTML file by itself: a scored test set, and the curves of a run."""
