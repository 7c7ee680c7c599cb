r"""The demo with the triplet loss instead of MCL, to compare the two on the same people.

    python -m mcl_jax.main --config configs/walkers_triplet.py \
        --config.data.root=demo/walkers --config.data.partition=demo/walkers_partition.json

The data are made by `make demo`, or by scripts/make_walkers.py.
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, triplet, walkers


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    walkers(config)
    triplet(config)
    return config
