"""Writing a folder of ArrayRecord files with TFDS; TensorFlow is not needed."""
