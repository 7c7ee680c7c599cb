"""Synthetic walking people: 3-D bodies with gaits of their own, filmed as silhouettes from eleven views."""

from mcl_jax.data.walkers.dataset import write_walkers
from mcl_jax.data.walkers.sequence import render_sequence
from mcl_jax.data.walkers.sheet import contact_sheet
from mcl_jax.data.walkers.style import CONDITIONS, VIEWS, WalkerStyle

__all__ = ["CONDITIONS", "VIEWS", "WalkerStyle", "contact_sheet", "render_sequence", "write_walkers"]
