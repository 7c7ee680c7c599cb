"""Turns embeddings into the figures of a published table: distances → protocol → metrics → report."""
