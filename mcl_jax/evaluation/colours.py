"""The colours of every picture and page: one for each condition, one scale of heat maps, right and wrong.

Those of conditions are told apart by people who see fewer colours, and are dark enough on white; a test
computes both.
"""

from collections.abc import Iterable
from dataclasses import dataclass

INK, SOFT, GRID = "#1b1f24", "#57606a", "#d0d7de"
RIGHT, WRONG, PROBE = "#116329", "#b3261e", INK  # marks and lines say it too

_HUES = ("#314dde", "#d9730d", "#70208a", "#00a47f", "#7f3800", "#c676c9")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 2.0), (1.5, 1.5), (6.0, 1.5, 1.5, 1.5))
_MARKERS = "osD^v*"

HEAT = ("#fdf3c4", "#7fc9b4", "#2a87b5", "#152a66")
"""Of a heat map, from its lowest value to 100 %: the darker, the better. No grey between them."""


@dataclass(frozen=True)
class Look:
    """The look of a line.

    Attributes:
        colour: as "#rrggbb".
        dash: lengths of strokes and gaps in widths of the line; empty for a whole line.
        marker: as Matplotlib calls it.
    """

    colour: str
    dash: tuple[float, ...] = ()
    marker: str = "o"


OVERALL = Look(INK)
"""Of what is over all conditions: their mean, or all pairs."""


def looks(groups: Iterable[str]) -> dict[str, Look]:
    """Returns the look of each group of probes, the same in every picture; from the seventh on dashed.

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
    """Returns the colour of a cell whose value lies at this share, 0 to 1, of the scale."""
    place = min(max(share, 0.0), 1.0) * (len(HEAT) - 1)
    i = min(int(place), len(HEAT) - 2)
    channels = zip(_channels(HEAT[i]), _channels(HEAT[i + 1]), strict=True)
    return "#" + "".join(f"{round(a + (place - i) * (b - a)):02x}" for a, b in channels)


def ink_on(colour: str) -> str:
    """Returns the colour of text that is read best on another."""
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
