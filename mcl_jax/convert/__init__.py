"""Imports and exports OpenGait's PyTorch checkpoints, without needing PyTorch."""
