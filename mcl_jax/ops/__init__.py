"""Numerical operations under the models: convolution, pooling, batch statistics."""
