"""One training step: state, update, optimisers, guards against numbers that are not finite, and reports."""
