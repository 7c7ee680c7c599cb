r"""The demo: a small GaitBase with MCL on synthetic people, on a CPU.

    python -m mcl_jax.main --config configs/walkers_mcl.py \
        --config.data.root=demo/walkers --config.data.partition=demo/walkers_partition.json

The data are made by `make demo`, or by scripts/make_walkers.py.
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, mcl, walkers


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    walkers(config)
    mcl(config, weight=1.0, ce_weight=1.0)
    return config
