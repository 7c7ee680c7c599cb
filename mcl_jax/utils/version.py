"""The version of the running package."""

import importlib


def own_version() -> str:
    """Returns the version of the running code, which may differ from the installed one."""
    # Imported by name at run time, because mcl_jax/__init__.py names modules that import this one.
    return str(importlib.import_module("mcl_jax").__version__)
