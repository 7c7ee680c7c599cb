"""From the archive of a dataset, as downloaded and unpacked, to the sequences that training reads."""

from mcl_jax.data.prepare.layouts import LAYOUTS
from mcl_jax.data.prepare.run import FORMATS, Summary, prepare

__all__ = ["FORMATS", "LAYOUTS", "Summary", "prepare"]
