"""Types of flags for argparse."""

import argparse
import math


def finite(text: str) -> float:
    """Returns the number that a flag was given.

    Raises:
        argparse.ArgumentTypeError: if it is none, or infinite.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"is {text!r}; must be a finite number")
    return number
