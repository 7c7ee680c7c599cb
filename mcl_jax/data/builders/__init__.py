"""TFDS builders that write sequences as ArrayRecord files; TensorFlow is not needed.

Importing this package registers the builders, so that `tfds.builder("casia_b")` finds them.
"""

from mcl_jax.data.builders.datasets import BUILDERS
from mcl_jax.data.builders.run import prepare_records

__all__ = ["BUILDERS", "prepare_records"]
