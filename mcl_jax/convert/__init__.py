"""Import and export of OpenGait's PyTorch checkpoints; works without PyTorch."""
