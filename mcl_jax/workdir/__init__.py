"""The folder of a run: who holds it, its checkpoints, and the record of how it was trained."""
