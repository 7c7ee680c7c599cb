"""HTML pages for people, each in one file: the report of a test, and the curves of a run."""
