"""Loggers of experiments: TensorBoard, Weights & Biases and MLflow, behind one small protocol."""
