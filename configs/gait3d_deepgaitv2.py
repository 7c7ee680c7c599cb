r"""DeepGaitV2-P3D on Gait3D.

    python -m mcl_jax.main --config configs/gait3d_deepgaitv2.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published: rank-1 74.4.
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, deepgaitv2_p3d, gait3d, ordered


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    gait3d(config)
    deepgaitv2_p3d(config)
    ordered(config, 30, skip=4)
    return config
