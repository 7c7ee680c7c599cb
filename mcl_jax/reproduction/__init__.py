"""A published run, measured again: dataset, weights, test, and the comparison with the published figures."""
