"""Clothes and bags of walkers, by day and by outfit."""

import dataclasses

import numpy as np

from mcl_jax.walkers.body import Body
from mcl_jax.walkers.figure import Bag, Coat, Skirt
from mcl_jax.walkers.gait import SIDES
from mcl_jax.walkers.style import WalkerStyle, bounded_normal, generator

SKIRT_SHARE = 0.3  # share of people who wear skirts
# Shares of everyday outfits with a coat and, for bags, of everyday walks.
COAT_SHARE, WIDE_SHARE, BAG_SHARE, BAG_OF_THE_DAY_SHARE = 0.3, 0.4, 0.12, 0.08


def pick_coat(
    seed: int, subject: int, condition: str, day: np.random.Generator, style: WalkerStyle
) -> Coat | None:
    """Returns the coat of a walk: by its condition, its day or, in everyday clothes, its outfit."""
    if not style.coat:
        return None
    if condition.startswith("cl"):
        return _draw_coat(day, style)
    cut = generator(seed, "coats", subject, _outfit_number(seed, subject, condition))
    if not style.everyday or cut.random() >= COAT_SHARE * style.everyday:
        return None
    # From a jacket to a wide coat that falls to the calves.
    wide = style.coat * (cut.uniform(0.6, 2.2) if cut.random() < WIDE_SHARE else 1.0)
    collar = cut.uniform(0.02, 0.045) if cut.random() < 0.5 else 0.0
    return Coat(wide * cut.uniform(0.008, 0.028), cut.uniform(0.2, 1.6), wide * cut.uniform(0, 0.026), collar)


def pick_bag(
    seed: int, subject: int, condition: str, day: np.random.Generator, style: WalkerStyle
) -> Bag | None:
    """Returns the bag of a walk: by its condition or, in everyday life, its outfit or its day."""
    if not style.bag:
        return None
    if condition.startswith("bg"):
        return _draw_bag(day, style)
    if not style.everyday:
        return None
    cut = generator(seed, "bags", subject, _outfit_number(seed, subject, condition))
    if cut.random() < BAG_SHARE * style.everyday:
        return _draw_bag(cut, style)
    return _draw_bag(day, style) if day.random() < BAG_OF_THE_DAY_SHARE * style.everyday else None


def pick_skirt(seed: int, subject: int, condition: str, style: WalkerStyle) -> Skirt | None:
    """Returns the skirt of an outfit; people who wear skirts mostly do so in half of their outfits."""
    if not style.variety or generator(seed, "skirts", subject).random() >= SKIRT_SHARE * style.variety:
        return None
    cut = generator(seed, "skirts", subject, _outfit_number(seed, subject, condition))
    return Skirt(cut.uniform(0.6, 1.9), cut.uniform(0.0, 0.03)) if cut.random() < 0.5 else None


def outfit(seed: int, subject: int, condition: str) -> np.random.Generator:
    """Returns the random generator of an outfit; two of three walks show the same outfit."""
    return generator(seed, "clothes", subject, _outfit_number(seed, subject, condition))


def change_clothes(outfit: np.random.Generator, body: Body, style: WalkerStyle) -> Body:
    """Returns the same body in another outfit and hairstyle."""
    spread = {
        "top_slack": 0.007,
        "hem_drop": 0.035,
        "sleeve_slack": 0.005,
        "trouser_slack": 0.007,
        "cuff_slack": 0.010,
        "hair_volume": 0.003,
    }
    changes = {name: style.wardrobe * sigma * bounded_normal(outfit) for name, sigma in spread.items()}
    return dataclasses.replace(body, **{name: getattr(body, name) + d for name, d in changes.items()})


def _outfit_number(seed: int, subject: int, condition: str) -> int:
    return int(generator(seed, "outfit", subject, condition).integers(3) == 0)


def _draw_coat(rng: np.random.Generator, style: WalkerStyle) -> Coat:
    collar = rng.uniform(0.02, 0.045) if rng.random() < 0.5 else 0.0
    reach = style.coat * rng.uniform(0.3, 1.2)
    return Coat(style.coat * rng.uniform(0.010, 0.031), reach, style.coat * rng.uniform(0.0, 0.026), collar)


def _draw_bag(rng: np.random.Generator, style: WalkerStyle) -> Bag:
    kind = str(rng.choice(["backpack", "shoulder", "hand"], p=[0.35, 0.4, 0.25]))
    side = str(rng.choice(list(SIDES)))
    big = style.bag * rng.uniform(0.9, 1.5)
    depth, width, height = {
        "backpack": (0.050, 0.080, 0.110),
        "shoulder": (0.085, 0.032, 0.070),
        "hand": (0.075, 0.028, 0.062),
    }[kind]
    height *= rng.uniform(0.85, 1.15)
    return Bag(kind, side, big * depth, big * width, big * height, strap=rng.uniform(0.0, 0.07))
