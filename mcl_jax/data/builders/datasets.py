"""A builder for each dataset; they differ in how the download is laid out."""

from mcl_jax.data.builders.base import SilhouetteBuilder


class CasiaB(SilhouetteBuilder):
    """CASIA-B: 124 people, 11 views, walking normally, with a bag, and in a coat."""

    LAYOUT = "casiab"


class Grew(SilhouetteBuilder):
    """GREW: 26,000 people seen by 882 cameras in the wild."""

    LAYOUT = "grew"


class Gait3D(SilhouetteBuilder):
    """Gait3D: 4,000 people seen by 39 cameras in a supermarket."""

    LAYOUT = "gait3d"


class Walkers(SilhouetteBuilder):
    """Synthetic walking people, as scripts/make_walkers.py draws them."""

    LAYOUT = "walkers"


class Tree(SilhouetteBuilder):
    """Any tree of subject/condition/view."""

    LAYOUT = "tree"


BUILDERS: dict[str, type[SilhouetteBuilder]] = {
    builder.LAYOUT: builder for builder in (CasiaB, Grew, Gait3D, Walkers, Tree)
}
"""Layout → its builder."""
