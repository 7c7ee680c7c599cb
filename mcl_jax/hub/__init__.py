"""Models that lie elsewhere: which are published, how they are named, and how they are fetched."""
