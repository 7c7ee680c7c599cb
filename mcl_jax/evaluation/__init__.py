"""From embeddings to the numbers of a published table: distances → protocol → metrics → report."""
