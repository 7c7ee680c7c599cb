"""The one engine that scores embeddings by any protocol. NumPy only."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from absl import logging

from mcl_jax.errors import DataError
from mcl_jax.evaluation import metrics
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import EVERY, PROBE_SET, THE_REST, Protocol
from mcl_jax.utils.names import written_otherwise

# (probe indices [n], gallery indices [m]) → distances [n, m]
DistanceFn = Callable[[np.ndarray, np.ndarray], np.ndarray]
# (group, probe indices [n], gallery indices [m], distances [n, m] with +inf for hidden pairs)
BlockFn = Callable[[str, np.ndarray, np.ndarray, np.ndarray], None]
CMC_LENGTH = 20


@dataclass(frozen=True)
class Roles:
    """The probes and the gallery of an `EmbeddingSet`, as indices into it.

    Attributes:
        probes: group → indices [n].
        gallery: indices [m].
        absent: number of entries of the probe set that have no sequence.
    """

    probes: dict[str, np.ndarray]
    gallery: np.ndarray
    absent: int = 0

    def all_probes(self) -> np.ndarray:
        """Indices of the probes of all groups, group after group."""
        return np.concatenate(list(self.probes.values()))


@dataclass(frozen=True)
class GroupScores:
    """Figures of one group of probes, in %; NaN where nothing could be ranked ("n/a").

    Attributes:
        scores: figure name → mean over the blocks.
        cells: figure name → [probe views, gallery views] ([probe views, 1] or [1, 1] for larger blocks);
            blocks that the mean leaves out are there too.
        cmc: [CMC_LENGTH] cumulative match characteristic, the unrounded mean over the same blocks.
        probes: number of probes.
        unmatched: rankings without a single match that counted as misses.
        skipped: rankings without a single match that were left out.
        hits: int32 [subjects, probe views, gallery views], rankings of a subject's probes with a match first;
            subjects in sorted order, views as in `cells`.
        tries: the same of all rankings.
    """

    scores: dict[str, float]
    cells: dict[str, np.ndarray]
    cmc: np.ndarray
    probes: int
    unmatched: int
    skipped: int
    hits: np.ndarray
    tries: np.ndarray


def assign_roles(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    probe_set: Collection[str] | None = None,
    gallery_set: Collection[str] | None = None,
    *,
    say: bool = True,
) -> Roles:
    """Picks the probes and the gallery.

    Args:
        protocol: the rules.
        embedding_set: the labels.
        probe_set: `subject-condition-view` names of the probes, where the protocol needs them.
        gallery_set: the same of the gallery, for protocols whose gallery is the rest; None for all of that.
        say: whether what is odd and no error is logged.

    Raises:
        DataError: if there are no probes or no gallery, the probe set is needed but not given, a condition or
            a view is not one of the protocol's, or a probe's subject has no gallery sequence although the
            protocol demands one.
    """
    if protocol.views is not None and (strange := set(embedding_set.views.tolist()) - set(protocol.views)):
        raise DataError(
            f"protocol {protocol.name}: views {_listed(strange)} are not among {', '.join(protocol.views)}: "
            f"rename them or choose another protocol"
        )
    wanted = set(probe_set or ())
    if PROBE_SET in protocol.probes.values() and not wanted:
        raise DataError(
            f"protocol {protocol.name}: the probe set is missing: give the partition JSON whose PROBE_SET "
            f"lists the probes (in Python: probe_set=)"
        )
    if say and gallery_set is not None and protocol.gallery is not THE_REST:
        logging.warning(
            "%s: GALLERY_SET is not used: the protocol's gallery is %s",
            protocol.name,
            _expected(protocol.gallery),
        )
    keys, present = embedding_set.keys(), embedding_set.conditions
    counts = ~np.isin(embedding_set.views, protocol.unused_views)
    probes = {
        group: _those(counts, _places(keys, wanted))
        if conditions is PROBE_SET
        else np.flatnonzero(counts & _is_one_of(present, conditions))
        for group, conditions in protocol.probes.items()
    }
    used = np.concatenate(list(probes.values()))
    if protocol.gallery is THE_REST:
        rest = np.arange(len(embedding_set)) if gallery_set is None else _places(keys, gallery_set)
        gallery = np.setdiff1d(_those(counts, rest), used)
        _count_absent(protocol, "GALLERY_SET", gallery_set or (), keys, say=say)
    else:
        gallery = np.flatnonzero(counts & _is_one_of(present, protocol.gallery))
    for role, indices in (("probe", used), ("gallery", gallery)):
        if not indices.size:
            raise DataError(_nothing_found(protocol, embedding_set, role))
    _check_conditions(protocol, embedding_set)
    people = np.unique(embedding_set.subjects[gallery])
    if say and len(people) == 1:
        logging.warning(
            "%s: the gallery has one person, %r: whoever comes is taken for them, and Rank-1 says nothing",
            protocol.name,
            str(people[0]),
        )
    if protocol.unmatched == "error" and not protocol.submit:
        _check_subjects(protocol, embedding_set, used, gallery)
    absent = 0
    if PROBE_SET in protocol.probes.values():
        absent = _count_absent(protocol, "PROBE_SET", wanted, keys, say=say)
    return Roles(probes, gallery, absent)


def _those(counts: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns the indices of sequences that count."""
    return indices[counts[indices]]


def _places(keys: list[str], names: Collection[str]) -> np.ndarray:
    """Indices of the sequences that are named."""
    wanted = set(names)
    return np.flatnonzero(np.array([key in wanted for key in keys], bool))


def _count_absent(
    protocol: Protocol, role: str, names: Collection[str], keys: list[str], *, say: bool
) -> int:
    """Returns how many names of a list have no sequence, and says which."""
    absent = set(names) - set(keys)
    if say and absent:
        logging.warning(
            "%s: %d of %d entries of %s have no sequence: %s%s",
            protocol.name,
            len(absent),
            len(set(names)),
            role,
            _listed(absent, most=100),
            written_otherwise(absent, keys),
        )
    return len(absent)


def view_list(embedding_set: EmbeddingSet, roles: Roles) -> list[str]:
    """The views that occur among probes and gallery, sorted."""
    return sorted(set(embedding_set.views[np.concatenate([roles.all_probes(), roles.gallery])].tolist()))


def longest_gallery(protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles) -> int:
    """The most gallery sequences that a probe is ranked against in one block."""
    if protocol.blocks != "view_pair":
        return len(roles.gallery)
    return int(np.unique(embedding_set.views[roles.gallery], return_counts=True)[1].max())


def score_groups(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    roles: Roles,
    distances: DistanceFn,
    watch: BlockFn | None = None,
) -> dict[str, GroupScores]:
    """Scores every group of probes, and logs warnings about the figures.

    Args:
        protocol: the rules; one that is scored here, not by submission.
        embedding_set: the labels.
        roles: from `assign_roles`.
        distances: called once per block.
        watch: called with each block that enters the mean, also where it has nothing to rank.

    Returns:
        Group → its figures.
    """
    views = view_list(embedding_set, roles)
    _, codes = np.unique(embedding_set.subjects, return_inverse=True)  # integers compare faster than strings
    results = {}
    for group, probes in roles.probes.items():
        results[group] = _score_group(
            protocol,
            embedding_set,
            codes,
            probes,
            roles.gallery,
            views,
            distances,
            None if watch is None else partial(watch, group),
        )
        for warning in _warnings(protocol, results[group], views):
            logging.warning("%s: %s%s", protocol.name, group, warning)
    return results


def mean_over_gallery_views(protocol: Protocol, cells: np.ndarray) -> np.ndarray:
    """Mean [probe views, ...] of `cells` [probe views, gallery views, ...] over the blocks that count."""
    counted = counted_blocks(protocol, cells).reshape(cells.shape[:2] + (1,) * (cells.ndim - 2))
    return metrics.nan_mean(np.where(counted, cells, np.nan), axis=1)


def counted_blocks(protocol: Protocol, cells: np.ndarray) -> np.ndarray:
    """Returns which blocks enter the mean, bool [probe views, gallery views], of `cells` of that shape."""
    counted = np.ones(cells.shape[:2], bool)
    if protocol.leave_out == "identical_view":
        np.fill_diagonal(counted, False)
    return counted


def hidden(
    protocol: Protocol, embedding_set: EmbeddingSet, probes: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
    """Returns the gallery sequences each probe must not see, bool [n, m]; itself is among them."""
    itself = probes[:, None] == gallery
    if protocol.leave_out == "nothing":
        return itself
    same_view = embedding_set.views[probes][:, None] == embedding_set.views[gallery]
    if protocol.leave_out == "own_view":
        same_view &= embedding_set.subjects[probes][:, None] == embedding_set.subjects[gallery]
    return itself | same_view


def overlap(probes: np.ndarray, gallery: np.ndarray) -> bool:
    """Whether a sequence is both a probe and in the gallery."""
    return bool(np.isin(probes, gallery).any())


def _is_one_of(present: np.ndarray, conditions: tuple[str, ...] | None) -> np.ndarray:
    """Returns which of the conditions present are among these, bool [n]; all where these are `EVERY`."""
    return np.full(len(present), True) if conditions == EVERY else np.isin(present, conditions or ())


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
        if missed.all():  # no right answer exists: no figure, rather than 0 %
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
        by_row = [probes[embedding_set.views[probes] == view] for view in views]
        by_column = [gallery]
        if protocol.blocks == "view_pair":
            by_column = [gallery[embedding_set.views[gallery] == view] for view in views]
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
    """(distances, same subject) [n, m] of a block; a pair that is hidden has distance +inf and no match."""
    block = distances(probes, gallery)
    match = codes[probes][:, None] == codes[gallery]
    # Of identical views, the blocks that the mean leaves out are ranked as well, for the heat map.
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
    """(rank of the first match, AP, INP) of each probe of a block."""
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


def _check_conditions(protocol: Protocol, embedding_set: EmbeddingSet) -> None:
    if protocol.gallery is THE_REST:
        return
    probes = (name for names in protocol.probes.values() for name in names or ())
    known = {*protocol.gallery, *probes, *protocol.unused}
    if known.issuperset(EVERY):
        return
    if strange := set(embedding_set.conditions.tolist()) - known:
        raise DataError(
            f"protocol {protocol.name}: conditions {_listed(strange)} are neither its probes nor its gallery "
            f"({', '.join(sorted(known))}): rename them, or leave them out"
        )


def _check_subjects(
    protocol: Protocol, embedding_set: EmbeddingSet, probes: np.ndarray, gallery: np.ndarray
) -> None:
    subjects, walks = np.unique(embedding_set.subjects[gallery], return_counts=True)
    in_gallery = dict(zip(subjects.tolist(), walks.tolist(), strict=True))
    # A probe that is in the gallery itself needs another sequence of its subject there.
    needed = np.where(np.isin(probes, gallery), 2, 1).tolist()
    labels = embedding_set.subjects[probes].tolist()
    lost = {name for name, least in zip(labels, needed, strict=True) if in_gallery.get(name, 0) < least}
    if lost:
        raise DataError(
            f"protocol {protocol.name}: subjects {_listed(lost)} have probes but no gallery sequence"
            f"{' besides the probe' if 2 in needed else ''} ({_expected(protocol.gallery)}): add it or leave "
            "these subjects out"
        )


def _nothing_found(protocol: Protocol, embedding_set: EmbeddingSet, role: str) -> str:
    expected = _expected(protocol.gallery)
    if role == "probe":
        expected = "; ".join(f"{group}: {_expected(names)}" for group, names in protocol.probes.items())
    return (
        f"protocol {protocol.name}: no {role} sequence: it expects {expected}; "
        f"found conditions {_listed(set(embedding_set.conditions.tolist()))}: "
        f"rename the conditions or choose another protocol"
    )


def _expected(conditions: tuple[str, ...] | None) -> str:
    return (
        "conditions " + ", ".join(conditions) if conditions else "the sequences of the partition's PROBE_SET"
    )


def _warnings(protocol: Protocol, group: GroupScores, views: list[str]) -> Iterator[str]:
    """Warnings about a group's figures."""
    if np.isnan(group.cmc).all():
        if not group.probes:
            yield " is n/a: none of its probes is among the embeddings"
        elif protocol.leave_out != "nothing" and len(views) == 1:
            yield f" is n/a: the only view is {views[0]} and the identical view is left out: add another view"
        else:
            yield " is n/a: no probe has a sequence of its subject in the gallery it may see"
        return
    cells = group.cells[protocol.figures[0]]
    counted = counted_blocks(protocol, cells)
    if empty := int(np.isnan(cells[counted]).sum()):
        yield f": {empty} of {counted.sum()} blocks have nothing to rank and are left out of the mean"
    if group.unmatched:
        yield f": {group.unmatched} rankings without a sequence of the probe's subject count as misses"
    if group.skipped:
        yield f": {group.skipped} probes without a sequence of their subject in the gallery are left out"


def _listed(names: set[str], most: int = 10) -> str:
    shown = ", ".join(sorted(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
