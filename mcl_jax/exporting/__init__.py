"""A trained model as one file for other programs: ONNX or StableHLO, silhouettes in, an embedding out."""
