"""Types of flags for argparse."""

import argparse
import math


def finite(text: str) -> float:
    """Parses the value of a flag as a finite number.

    Raises:
        argparse.ArgumentTypeError: if it is not a number, or not finite.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"is {text!r}; must be a finite number")
    return number
