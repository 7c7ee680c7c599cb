"""Sizes of the published models, which the benchmarks use."""

CLASSES = 74
BACKBONE = {"channels": (64, 128, 256, 512), "num_classes": CLASSES}
SIZES = {
    "gaitset": {"channels": (32, 64, 128), "embed_dim": 256},
    "gaitbase": {**BACKBONE, "embed_dim": 256},
    "deepgaitv2": {**BACKBONE, "mode": "p3d", "layers": (1, 4, 4, 1)},
    "gaitpart": {"channels": (32, 64, 128), "strips": (1, 4, 8), "embed_dim": 128},
    "gaitgl": {"form": "small", "channels": (32, 64, 128), "necks": False, "num_classes": CLASSES},
    # CCPG's and SUSTech1K's depths; without dropped branches, which each side would draw differently.
    "swingait": {
        "layers": (1, 1, 2, 2),
        "channels": (64, 128),
        "widths": (256, 512),
        "parts": 15,
        "drop_path": 0.0,
        "num_classes": CLASSES,
    },
}
