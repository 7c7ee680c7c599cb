"""Sizes of the published models, which the benchmarks use."""

CLASSES = 74
BACKBONE = {"channels": (64, 128, 256, 512), "num_classes": CLASSES}
SIZES = {
    "gaitset": {"channels": (32, 64, 128), "embed_dim": 256},
    "gaitbase": {**BACKBONE, "embed_dim": 256},
    "deepgaitv2": {**BACKBONE, "mode": "p3d", "layers": (1, 4, 4, 1)},
}
