"""Draws retrieval.png: silhouettes of some probes beside their nearest gallery sequences."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.colours import PROBE, RIGHT, WRONG
from mcl_jax.evaluation.embeddings import EmbeddingSet, SilhouetteFn
from mcl_jax.evaluation.plots import NAME_LENGTH, literal, write_title
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.roles import Roles
from mcl_jax.evaluation.scoring import DistanceFn
from mcl_jax.utils.names import short_name

# (index of a probe, indices of its nearest gallery sequences, their distances)
SheetRow = tuple[int, np.ndarray, np.ndarray]
CANDIDATES = 256  # probes that are searched for right and wrong ones
SEEN = {
    "nothing": "the whole gallery",
    "identical_view": "the whole gallery, without the probe's view",
    "own_view": "the whole gallery, without its own subject's walks from its own view",
}
OF_EACH = 3
NEAREST = 5


def sheet_rows(
    protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles, distances: DistanceFn
) -> list[SheetRow]:
    """Chooses some probes whose nearest sequence is wrong, then some whose nearest is right.

    Args:
        protocol: the rules, also about hidden gallery sequences.
        embedding_set: the labels.
        roles: probes and gallery; the whole gallery that a probe may see is ranked.
        distances: called once.

    Returns:
        One row per chosen probe, evenly spaced among the probes, so equal embeddings give equal rows; empty
        if no probe may see a gallery sequence of its subject.
    """
    everybody, groups = roles.rankings()
    chosen = spread(np.arange(len(everybody)), CANDIDATES)
    probes = everybody[chosen]
    unseen = scoring.hidden(protocol, embedding_set, probes, roles.gallery)
    unseen |= roles.elsewhere(groups[chosen])
    match = (embedding_set.subjects[probes][:, None] == embedding_set.subjects[roles.gallery]) & ~unseen
    answerable = match.any(axis=1)
    probes, unseen, match = probes[answerable], unseen[answerable], match[answerable]
    if not probes.size:
        return []
    block = np.where(unseen, np.inf, distances(probes, roles.gallery))
    order = np.argsort(block, axis=1, kind="stable")[:, :NEAREST]
    right = np.take_along_axis(match, order[:, :1], axis=1)[:, 0]
    wrong = spread(np.flatnonzero(~right), OF_EACH)
    shown = [*wrong, *spread(np.flatnonzero(right), 2 * OF_EACH - len(wrong))]
    rows = []
    for i in shown:
        near = order[i][np.isfinite(block[i, order[i]])]
        rows.append((int(probes[i]), roles.gallery[near], block[i, near]))
    return rows


def draw_sheet(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    rows: list[SheetRow],
    silhouettes: SilhouetteFn,
    model: str = "",
) -> Figure:
    """Draws a probe in the first column and its nearest gallery sequences beside it, framed green or red.

    Args:
        protocol: has the title.
        embedding_set: the labels.
        rows: from `sheet_rows`.
        silhouettes: returns the frames of a sequence.
        model: name of the model, for the title.
    """
    columns = 1 + NEAREST
    figure = Figure(figsize=(1.75 * columns, 2.25 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, (probe, nearest, distances) in zip(panels, rows, strict=True):
        _show(line[0], silhouettes(probe), f"probe\n{_label(embedding_set, probe)}", PROBE)
        for axes, i, distance in zip(line[1:], nearest.tolist(), distances.tolist(), strict=False):
            right = embedding_set.subjects[i] == embedding_set.subjects[probe]
            text = f"{'✓' if right else '✗'} {distance:.3f}\n{_label(embedding_set, i)}"
            _show(axes, silhouettes(i), text, RIGHT if right else WRONG)
        for axes in line[1 + len(nearest) :]:
            axes.axis("off")
    note = f"nearest of {SEEN[protocol.leave_out]}, with distances; ✓ the same person, ✗ another"
    write_title(figure, protocol.data, note, model)
    return figure


def spread(values: np.ndarray, maximum: int) -> np.ndarray:
    """Returns up to `maximum` of the values, evenly spaced, so the choice is always the same."""
    if len(values) <= maximum:
        return values
    return values[np.linspace(0, len(values) - 1, maximum).round().astype(int)]


def _show(axes: Axes, frames: np.ndarray, text: str, colour: str) -> None:
    axes.imshow(frames[len(frames) // 2], cmap="gray", vmin=0, vmax=255)
    axes.set_title(text, fontsize=8, color=colour)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=3)


def _label(embedding_set: EmbeddingSet, i: int) -> str:
    """Returns a label with the person on one line and the walk on the next."""
    walk = f"{embedding_set.conditions[i]} {embedding_set.views[i]}"
    return "\n".join(
        literal(short_name(name, NAME_LENGTH)) for name in (str(embedding_set.subjects[i]), walk)
    )
