"""Heat map of probe view × gallery view: values and colours, for the picture and for the page."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mcl_jax.evaluation import colours, scoring
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.scoring import GroupScores

_HIGHEST_LOW = 99.0  # the scale must start at or below this, so that it has some length


@dataclass(frozen=True, eq=False)
class HeatMap:
    """One table for each group, all on the same scale.

    Attributes:
        figure: name of the figure, such as "Rank-1".
        cells: group → % [probe views, gallery views]; NaN if nothing could be ranked.
        counted: bool [probe views, gallery views]: whether a cell counts in the mean.
        low: lowest value of the scale; the highest is 100.
    """

    figure: str
    cells: dict[str, np.ndarray]
    counted: np.ndarray
    low: float

    def colour(self, value: float) -> str:
        """Returns the colour of a value."""
        return colours.heat((value - self.low) / (100 - self.low))


def heat_map(protocol: Protocol, groups: Mapping[str, GroupScores]) -> HeatMap:
    """Returns the heat map of the first figure of a protocol that compares views in pairs.

    Args:
        protocol: the rules.
        groups: figures of each group, at least one.
    """
    figure = protocol.figures[0]
    cells = {name: group.cells[figure] for name, group in groups.items()}
    counted = scoring.counted_blocks(protocol, next(iter(cells.values())))
    known = np.concatenate([values[counted & ~np.isnan(values)] for values in cells.values()])
    low = min(float(known.min()), _HIGHEST_LOW) if known.size else 0.0
    return HeatMap(figure, cells, counted, low)
