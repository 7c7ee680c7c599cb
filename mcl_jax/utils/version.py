"""The version of this package, as it runs."""

import importlib


def own_version() -> str:
    """Returns the version of the code that runs, which need not be the one that is installed."""
    # By its name at run time: the package's face names modules that import this one.
    return str(importlib.import_module("mcl_jax").__version__)
