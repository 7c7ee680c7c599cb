"""Scores embeddings by any protocol. NumPy only."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from absl import logging

from mcl_jax.evaluation import metrics
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.roles import Roles, views_of
from mcl_jax.utils.terminal import count

# (probe indices [n], gallery indices [m]) → distances [n, m]
DistanceFn = Callable[[np.ndarray, np.ndarray], np.ndarray]
# (group, probe indices [n], gallery indices [m], distances [n, m] with +inf for hidden pairs)
BlockFn = Callable[[str, np.ndarray, np.ndarray, np.ndarray], None]
CMC_LENGTH = 20


@dataclass(frozen=True)
class GroupScores:
    """Figures of one group of probes, in %; NaN ("n/a") if nothing could be ranked.

    Attributes:
        scores: figure name → mean over the blocks.
        cells: figure name → [probe views, gallery views] ([probe views, 1] or [1, 1] for larger blocks);
            including blocks that do not count in the mean.
        cmc: [CMC_LENGTH], cumulative match characteristic: unrounded mean over the same blocks.
        probes: number of probes.
        unmatched: number of rankings without any match that counted as misses.
        skipped: number of rankings without any match that were left out.
        hits: int32 [subjects, probe views, gallery views], number of a subject's rankings with a match at
            rank 1; subjects in sorted order, views as in `cells`.
        tries: likewise, number of all rankings.
    """

    scores: dict[str, float]
    cells: dict[str, np.ndarray]
    cmc: np.ndarray
    probes: int
    unmatched: int
    skipped: int
    hits: np.ndarray
    tries: np.ndarray


def view_list(protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles) -> list[str]:
    """Returns the views of all probes and gallery sequences, sorted."""
    views = views_of(protocol, embedding_set)
    return sorted(set(views[np.concatenate([roles.all_probes(), roles.gallery])].tolist()))


def longest_gallery(protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles) -> int:
    """Returns the maximum number of gallery sequences that a probe is ranked against in one block."""
    galleries = [roles.gallery_of(group) for group in roles.probes]
    if protocol.blocks != "view_pair":
        return max(len(gallery) for gallery in galleries)
    views = views_of(protocol, embedding_set)
    counts = [np.unique(views[gallery], return_counts=True)[1] for gallery in galleries if gallery.size]
    return max(int(count.max()) for count in counts)


def score_groups(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    roles: Roles,
    distances: DistanceFn,
    watch: BlockFn | None = None,
) -> dict[str, GroupScores]:
    """Scores every group of probes, and logs warnings about the figures.

    Args:
        protocol: the rules; not one for submissions.
        embedding_set: the labels.
        roles: from `assign_roles`.
        distances: called once per block.
        watch: called with each block that counts in the mean, even if it has nothing to rank.

    Returns:
        Group → its figures.
    """
    views = view_list(protocol, embedding_set, roles)
    _, codes = np.unique(embedding_set.subjects, return_inverse=True)  # integers compare faster than strings
    results = {}
    for group, probes in roles.probes.items():
        results[group] = _score_group(
            protocol,
            embedding_set,
            codes,
            probes,
            roles.gallery_of(group),
            views,
            distances,
            None if watch is None else partial(watch, group),
        )
        for warning in _warnings(protocol, results[group], views):
            logging.warning("%s: %s%s", protocol.name, group, warning)
    return results


def mean_over_gallery_views(protocol: Protocol, cells: np.ndarray) -> np.ndarray:
    """Returns the mean [probe views, …] of `cells` [probe views, gallery views, …] over counted blocks."""
    counted = counted_blocks(protocol, cells).reshape(cells.shape[:2] + (1,) * (cells.ndim - 2))
    return metrics.nan_mean(np.where(counted, cells, np.nan), axis=1)


def counted_blocks(protocol: Protocol, cells: np.ndarray) -> np.ndarray:
    """Returns bool [probe views, gallery views]: whether a block of `cells` counts in the mean."""
    counted = np.ones(cells.shape[:2], bool)
    if protocol.leave_out == "identical_view":
        np.fill_diagonal(counted, False)
    return counted


def hidden(
    protocol: Protocol, embedding_set: EmbeddingSet, probes: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
    """Returns bool [n, m]: whether a gallery sequence is hidden from a probe; the probe itself always is."""
    itself = probes[:, None] == gallery
    if protocol.leave_out == "nothing":
        return itself
    views = views_of(protocol, embedding_set)
    same_view = views[probes][:, None] == views[gallery]
    if protocol.leave_out == "own_view":
        same_view &= embedding_set.subjects[probes][:, None] == embedding_set.subjects[gallery]
    return itself | same_view


def overlap(probes: np.ndarray, gallery: np.ndarray) -> bool:
    """Whether a sequence is both a probe and in the gallery."""
    return bool(np.isin(probes, gallery).any())


def _score_group(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    codes: np.ndarray,
    probes: np.ndarray,
    gallery: np.ndarray,
    views: list[str],
    distances: DistanceFn,
    watch: Callable[[np.ndarray, np.ndarray, np.ndarray], None] | None,
) -> GroupScores:
    rows = 1 if protocol.blocks == "all" else len(views)
    columns = len(views) if protocol.blocks == "view_pair" else 1
    cells = {figure: np.full((rows, columns), np.nan) for figure in protocol.figures}
    cmc = np.full((rows, columns, CMC_LENGTH), np.nan)
    counted = counted_blocks(protocol, cmc)
    hits, tries = np.zeros((2, codes.max() + 1, rows, columns), np.int32)
    unmatched = skipped = 0

    def overall(blocks: np.ndarray) -> np.ndarray:
        return metrics.nan_mean(mean_over_gallery_views(protocol, blocks), axis=0)

    for cell, block_probes, block_gallery in _blocks(protocol, embedding_set, probes, gallery, views):
        block, match = _block(protocol, embedding_set, codes, block_probes, block_gallery, distances)
        if watch is not None and counted[cell]:
            watch(block_probes, block_gallery, block)
        ranks, ap, inp = _rank_block(protocol, block, match)
        del block, match  # before the next block is made
        missed = ranks == metrics.NO_MATCH
        if protocol.unmatched == "skip":
            skipped += int(missed.sum())
            ranks, ap, inp = ranks[~missed], ap[~missed], inp[~missed]
            block_probes = block_probes[~missed]
        if protocol.unmatched == "wrong_rank":
            ap, inp = ap[~missed], inp[~missed]
        if missed.all():  # there is no right answer, so there is no figure (not 0 %)
            continue
        if protocol.unmatched != "skip" and counted[cell]:
            unmatched += int(missed.sum())
        cmc[cell] = metrics.cmc(ranks, CMC_LENGTH)
        np.add.at(hits, (codes[block_probes], *cell), ranks == 1)
        np.add.at(tries, (codes[block_probes], *cell), 1)
        for figure in protocol.figures:
            cells[figure][cell] = _figure(figure, ranks, ap, inp, protocol.decimals)
    return GroupScores(
        scores={figure: float(overall(values)) for figure, values in cells.items()},
        cells=cells,
        cmc=overall(cmc),
        probes=len(probes),
        unmatched=unmatched,
        skipped=skipped,
        hits=hits,
        tries=tries,
    )


def _blocks(
    protocol: Protocol, embedding_set: EmbeddingSet, probes: np.ndarray, gallery: np.ndarray, views: list[str]
) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
    """Yields ((row, column), probe indices, gallery indices) of every block that has both."""
    if protocol.blocks == "all":
        by_row, by_column = [probes], [gallery]
    else:
        view_of = views_of(protocol, embedding_set)
        by_row = [probes[view_of[probes] == view] for view in views]
        by_column = [gallery]
        if protocol.blocks == "view_pair":
            by_column = [gallery[view_of[gallery] == view] for view in views]
    for i, block_probes in enumerate(by_row):
        for j, block_gallery in enumerate(by_column):
            if block_probes.size and block_gallery.size:
                yield (i, j), block_probes, block_gallery


def _block(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    codes: np.ndarray,
    probes: np.ndarray,
    gallery: np.ndarray,
    distances: DistanceFn,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (distances, same subject) [n, m] of a block; hidden pairs have distance +inf and no match."""
    block = distances(probes, gallery)
    match = codes[probes][:, None] == codes[gallery]
    # With "identical_view", blocks of identical views are ranked too, for the heat map.
    if protocol.leave_out == "own_view":
        unseen = hidden(protocol, embedding_set, probes, gallery)
    elif overlap(probes, gallery):
        unseen = probes[:, None] == gallery
    else:
        return block, match
    return np.where(unseen, np.inf, block), match & ~unseen


def _rank_block(
    protocol: Protocol, block: np.ndarray, match: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (rank of the first match, AP, INP) of each probe of a block."""
    ranks = metrics.first_match_ranks(block, match)
    if {"mAP", "mINP"}.isdisjoint(protocol.figures):
        return ranks, np.empty(len(ranks)), np.empty(len(ranks))
    return ranks, *metrics.average_precision(block, match)


def _figure(name: str, ranks: np.ndarray, ap: np.ndarray, inp: np.ndarray, decimals: int | None) -> float:
    if name == "mAP":
        percent = ap.mean() * 100
    elif name == "mINP":
        percent = inp.mean() * 100
    else:
        k = int(name.removeprefix("Rank-"))
        percent = (ranks <= k).sum() * 100 / len(ranks)
    return float(percent if decimals is None else np.round(percent, decimals))


def _warnings(protocol: Protocol, group: GroupScores, views: list[str]) -> Iterator[str]:
    """Yields warnings about a group's figures."""
    if np.isnan(group.cmc).all():
        if not group.probes:
            yield " is n/a: the embeddings have none of its probes"
        elif protocol.leave_out != "nothing" and len(views) == 1:
            yield f" is n/a: the only view is {views[0]} and the identical view is left out: add another view"
        else:
            yield " is n/a: no probe has a sequence of its subject in the gallery it may see"
        return
    cells = group.cells[protocol.figures[0]]
    counted = counted_blocks(protocol, cells)
    if empty := int(np.isnan(cells[counted]).sum()):
        yield f": left out of the mean: {empty} of {counted.sum()} blocks, with nothing to rank"
    if group.unmatched:
        rankings = count(group.unmatched, "ranking")
        yield f": counted as misses: {rankings} without a sequence of the probe's subject"
    if group.skipped:
        probes = count(group.skipped, "probe")
        yield f": left out: {probes} without a sequence of the same subject in the gallery"
