"""Colours of all pictures and pages: for conditions, for heat maps, and for right and wrong.

Colour-blind people can distinguish the colours of conditions, and they are dark enough on white; a test
computes both.
"""

from collections.abc import Iterable
from dataclasses import dataclass

INK, SOFT, GRID = "#1b1f24", "#57606a", "#d0d7de"
RIGHT, WRONG, PROBE = "#116329", "#b3261e", INK  # always together with a mark such as ✓

_HUES = ("#314dde", "#d9730d", "#70208a", "#00a47f", "#7f3800", "#c676c9")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 2.0), (1.5, 1.5), (6.0, 1.5, 1.5, 1.5))
_MARKERS = "osD^v*"

HEAT = ("#fdf3c4", "#7fc9b4", "#2a87b5", "#152a66")
"""Colours of a heat map, from its lowest value to 100 %: the darker, the better. None is grey."""


@dataclass(frozen=True)
class Look:
    """Style of a line.

    Attributes:
        colour: as "#rrggbb".
        dash: lengths of strokes and gaps, in line widths; empty for a solid line.
        marker: Matplotlib's name of the marker.
    """

    colour: str
    dash: tuple[float, ...] = ()
    marker: str = "o"


OVERALL = Look(INK)
"""Style of the mean over all conditions, and of all pairs."""


def looks(groups: Iterable[str]) -> dict[str, Look]:
    """Returns the style of each group of probes, the same in every picture; the seventh and later are dashed.

    Args:
        groups: all groups of the protocol, in its order.
    """
    return {
        name: Look(
            _HUES[i % len(_HUES)], _DASHES[i // len(_HUES) % len(_DASHES)], _MARKERS[i % len(_MARKERS)]
        )
        for i, name in enumerate(groups)
    }


def heat(share: float) -> str:
    """Returns the colour for a position, 0 to 1, on the scale of a heat map."""
    place = min(max(share, 0.0), 1.0) * (len(HEAT) - 1)
    i = min(int(place), len(HEAT) - 2)
    channels = zip(_channels(HEAT[i]), _channels(HEAT[i + 1]), strict=True)
    return "#" + "".join(f"{round(a + (place - i) * (b - a)):02x}" for a, b in channels)


def ink_on(colour: str) -> str:
    """Returns black or white, whichever is easier to read on a colour."""
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, colour))


def contrast(a: str, b: str) -> float:
    """Returns the contrast of two colours, 1 to 21, as WCAG 2 defines it (www.w3.org/TR/WCAG22)."""
    dark, light = sorted((_luminance(a), _luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in _channels(colour))
    ]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))
