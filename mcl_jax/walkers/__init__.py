"""Synthetic walking people: 3-D bodies with gaits of their own, filmed as silhouettes from eleven views."""

from mcl_jax.walkers.dataset import write_walkers
from mcl_jax.walkers.filming import Passer, film
from mcl_jax.walkers.sequence import render_sequence
from mcl_jax.walkers.sheet import contact_sheet
from mcl_jax.walkers.style import CONDITIONS, VIEWS, WalkerStyle

__all__ = [
    "CONDITIONS",
    "VIEWS",
    "Passer",
    "WalkerStyle",
    "contact_sheet",
    "film",
    "render_sequence",
    "write_walkers",
]
