"""Chooses the probes and the gallery of an embedding set by a protocol. NumPy only."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from absl import logging

from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import (
    EVERY_OTHER,
    GALLERY_SET,
    PROBE_SET,
    THE_REST,
    Choice,
    Chosen,
    Protocol,
    Subjects,
)
from mcl_jax.utils.names import written_otherwise

_ANY_TEXT = "*"  # in the name of a condition
_SHARED = ""  # key for a gallery that all groups share
_ROLE_OF_LIST = {PROBE_SET: "probes", GALLERY_SET: "gallery"}


@dataclass(frozen=True)
class Roles:
    """The probes and the gallery of an `EmbeddingSet`, as indices into it.

    Attributes:
        probes: group → indices [n].
        gallery: indices [m], of all groups together.
        absent: number of entries of the probe set that have no sequence.
        own: group → indices of its gallery, if each group has its own; empty if they share one.
    """

    probes: dict[str, np.ndarray]
    gallery: np.ndarray
    absent: int = 0
    own: Mapping[str, np.ndarray] = field(default_factory=dict)

    def all_probes(self) -> np.ndarray:
        """Returns the indices of the probes of all groups, one group after another."""
        return np.concatenate(list(self.probes.values()))

    def gallery_of(self, group: str) -> np.ndarray:
        """Returns the indices of the gallery of a group of probes."""
        return self.own.get(group, self.gallery)

    def rankings(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (probes [n], their groups [n]), each probe once for each gallery that it is ranked against.

        If several groups share a gallery, a probe is listed with the first group that has it.
        """
        probes: list[np.ndarray] = []
        for group, indices in self.probes.items():
            earlier = [] if group in self.own else probes
            probes.append(indices[~np.isin(indices, np.concatenate(earlier))] if earlier else indices)
        groups = [np.full(len(part), group) for part, group in zip(probes, self.probes, strict=True)]
        return np.concatenate(probes), np.concatenate(groups)

    def elsewhere(self, groups: np.ndarray) -> np.ndarray:
        """Returns bool [n, m]: whether a gallery sequence is not in the gallery of the probe's group."""
        inside = {group: np.isin(self.gallery, self.gallery_of(group)) for group in self.own}
        everything = np.full(len(self.gallery), True)
        return ~np.stack([inside.get(group, everything) for group in groups.tolist()])


def assign_roles(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    probe_set: Collection[str] | None = None,
    gallery_set: Collection[str] | None = None,
    *,
    say: bool = True,
) -> Roles:
    """Chooses the probes and the gallery.

    Args:
        protocol: the rules.
        embedding_set: the labels.
        probe_set: `subject-condition-view` names of the probes, if the protocol needs them.
        gallery_set: likewise for the gallery; None if there is no such list.
        say: whether to log warnings about the data.

    Raises:
        DataError: if there are no probes or no gallery, a group has probes but no gallery, a required list is
            missing, a condition or view is unknown to the protocol, or a probe's subject has no gallery
            sequence although the protocol requires one.
    """
    lists = {PROBE_SET: probe_set, GALLERY_SET: gallery_set}
    _check_views(protocol, embedding_set)
    _require_lists(protocol, lists)
    roles = _pick(protocol, embedding_set, lists)
    for role, indices in (("probe", roles.all_probes()), ("gallery", roles.gallery)):
        if not indices.size:
            raise DataError(_nothing_found(protocol, embedding_set, role))
    for group, own in roles.own.items():
        if roles.probes[group].size and not own.size:
            raise DataError(_nothing_found(protocol, embedding_set, "gallery", group))
    _check_conditions(protocol, embedding_set)
    if protocol.unmatched == "error" and not protocol.submit:
        _check_subjects(protocol, embedding_set, roles)
    if say:
        _log_warnings(protocol, embedding_set, roles, lists)
    return roles


def views_of(protocol: Protocol, embedding_set: EmbeddingSet) -> np.ndarray:
    """Returns the view of each sequence as the protocol understands it (see `view_ends`), str [n]."""
    if not protocol.view_ends:
        return embedding_set.views
    return np.array([view.partition(protocol.view_ends)[0] for view in embedding_set.views.tolist()])


def _pick(
    protocol: Protocol, embedding_set: EmbeddingSet, lists: Mapping[Chosen, Collection[str] | None]
) -> Roles:
    keys = embedding_set.keys()
    counts = ~np.isin(views_of(protocol, embedding_set), protocol.unused_views)

    def chosen(choice: Choice) -> np.ndarray | None:
        """Returns the indices of the chosen sequences; None if they are those not chosen otherwise."""
        if choice is THE_REST and lists[GALLERY_SET] is not None:
            choice = GALLERY_SET
        if isinstance(choice, Subjects):
            return np.flatnonzero(counts & np.isin(embedding_set.subjects, choice.names))
        if isinstance(choice, Chosen):
            return _places(keys, lists[choice] or (), counts) if choice in lists else None
        return np.flatnonzero(counts & fits(embedding_set.conditions, choice))

    own = isinstance(protocol.gallery, Mapping)
    choices = protocol.galleries if own else {_SHARED: protocol.galleries[next(iter(protocol.probes))]}
    every = np.flatnonzero(counts)
    found = {group: chosen(choice) for group, choice in choices.items()}
    probes = {}
    for group, choice in protocol.probes.items():
        indices = chosen(choice)
        if indices is None:
            gallery = found[group if own else _SHARED]
            assert gallery is not None  # a protocol in which both are "others" is refused
            indices = np.setdiff1d(every, gallery)
        probes[group] = indices
    galleries = {}
    for group, indices in found.items():
        met = probes[group] if own else np.concatenate(list(probes.values()))
        galleries[group] = every if indices is None else indices
        if choices[group] in (THE_REST, EVERY_OTHER):
            galleries[group] = np.setdiff1d(galleries[group], met)
    absent = len(set(lists[PROBE_SET] or ()) - set(keys)) if _reads(protocol, PROBE_SET) else 0
    if own:
        return Roles(probes, np.unique(np.concatenate(list(galleries.values()))), absent, galleries)
    return Roles(probes, galleries[_SHARED], absent)


def fits(conditions: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Returns bool [n]: whether a condition matches one of the names; * in a name stands for any text."""
    found = np.isin(conditions, [name for name in names if _ANY_TEXT not in name])
    patterns = [name.split(_ANY_TEXT) for name in names if _ANY_TEXT in name]
    if not patterns:
        return found
    present, places = np.unique(conditions, return_inverse=True)
    matched = [any(_has_in_order(name, parts) for parts in patterns) for name in present.tolist()]
    return np.asarray(found | np.array(matched, bool)[places])


def _has_in_order(name: str, parts: list[str]) -> bool:
    """Whether a name starts with the first part, ends with the last, and has the others in between, in order.

    Written by hand, because a regular expression with many such parts may take forever.
    """
    first, *middle, last = parts
    place, end = len(first), len(name) - len(last)
    if place > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in middle:
        found = name.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True


def _places(keys: list[str], names: Collection[str], counts: np.ndarray) -> np.ndarray:
    """Returns the indices of the sequences that are named and count."""
    wanted = set(names)
    return np.flatnonzero(counts & np.array([key in wanted for key in keys], bool))


def _reads(protocol: Protocol, listed: Chosen) -> bool:
    """Whether a protocol reads a list of the partition."""
    galleries = protocol.galleries.values()
    return listed in [*protocol.probes.values(), *galleries] or (
        listed is GALLERY_SET and THE_REST in galleries
    )


def _check_views(protocol: Protocol, embedding_set: EmbeddingSet) -> None:
    if protocol.views is None:
        return
    if strange := set(views_of(protocol, embedding_set).tolist()) - set(protocol.views):
        raise DataError(
            f"protocol {protocol.name}: views {_listed(strange)} are not among {', '.join(protocol.views)}: "
            f"rename them or choose another protocol"
        )


def _require_lists(protocol: Protocol, lists: Mapping[Chosen, Collection[str] | None]) -> None:
    for listed, role in _ROLE_OF_LIST.items():
        if listed in [*protocol.probes.values(), *protocol.galleries.values()] and not lists[listed]:
            name = listed.name.lower().replace("_", " ")
            raise DataError(
                f"protocol {protocol.name}: the {name} is missing: give the partition JSON whose "
                f"{listed.name} lists the {role} (in Python: {listed.name.lower()}=)"
            )


def _check_conditions(protocol: Protocol, embedding_set: EmbeddingSet) -> None:
    choices = [*protocol.probes.values(), *protocol.galleries.values()]
    names = [choice for choice in choices if isinstance(choice, tuple)]
    if len(names) < len(choices):  # choices other than by condition accept any condition
        return
    known = {name for choice in (*names, protocol.unused) for name in choice}
    conditions = embedding_set.conditions
    if strange := set(conditions[~fits(conditions, tuple(known))].tolist()):
        raise DataError(
            f"protocol {protocol.name}: conditions {_listed(strange)} are neither its probes nor its gallery "
            f"({', '.join(sorted(known))}): rename them, or leave them out"
        )


def _check_subjects(protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles) -> None:
    for group, choice in protocol.galleries.items():
        probes, gallery = roles.probes[group], roles.gallery_of(group)
        subjects, walks = np.unique(embedding_set.subjects[gallery], return_counts=True)
        in_gallery = dict(zip(subjects.tolist(), walks.tolist(), strict=True))
        # A probe that is itself in the gallery needs another sequence of its subject there.
        needed = np.where(np.isin(probes, gallery), 2, 1).tolist()
        labels = embedding_set.subjects[probes].tolist()
        lost = {
            name for name, minimum in zip(labels, needed, strict=True) if in_gallery.get(name, 0) < minimum
        }
        if lost:
            raise DataError(
                f"protocol {protocol.name}: subjects {_listed(lost)} have probes but no gallery sequence"
                f"{' besides the probe' if 2 in needed else ''} ({_expected(choice)}): add one, or leave "
                "these subjects out"
            )


def _nothing_found(protocol: Protocol, embedding_set: EmbeddingSet, role: str, group: str = "") -> str:
    choices = protocol.probes if role == "probe" else protocol.galleries
    if group:
        wanted = _expected(choices[group])
    elif role == "probe" or isinstance(protocol.gallery, Mapping):
        wanted = "; ".join(f"{name}: {_expected(choice)}" for name, choice in choices.items())
    else:
        wanted = _expected(protocol.gallery)
    where = f" for {group}" if group else ""
    return (
        f"protocol {protocol.name}: no {role} sequence{where}: it expects {wanted}; "
        f"found conditions {_listed(set(embedding_set.conditions.tolist()))}: "
        f"rename the conditions or choose another protocol"
    )


def _expected(choice: Choice) -> str:
    if isinstance(choice, Chosen):
        return choice.value
    if isinstance(choice, Subjects):
        return "subjects " + ", ".join(choice.names)
    return "conditions " + ", ".join(choice)


def _log_warnings(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    roles: Roles,
    lists: Mapping[Chosen, Collection[str] | None],
) -> None:
    """Logs warnings about unusual data."""
    keys = embedding_set.keys()
    for listed, names in lists.items():
        if names is not None and _reads(protocol, listed):
            _warn_of_absent(protocol, listed.name, set(names), keys)
    if lists[GALLERY_SET] is not None and not _reads(protocol, GALLERY_SET):
        galleries = dict.fromkeys(map(_expected, protocol.galleries.values()))
        logging.warning(
            "%s: GALLERY_SET is not used: the protocol's gallery is %s", protocol.name, "; ".join(galleries)
        )
    people = np.unique(embedding_set.subjects[roles.gallery])
    if len(people) == 1:
        logging.warning(
            "%s: the gallery has one person, %r: every probe is taken for this person, so Rank-1 is "
            "meaningless",
            protocol.name,
            str(people[0]),
        )


def _warn_of_absent(protocol: Protocol, listed: str, names: set[str], keys: list[str]) -> None:
    if absent := names - set(keys):
        logging.warning(
            "%s: %d of %d entries of %s have no sequence: %s%s",
            protocol.name,
            len(absent),
            len(names),
            listed,
            _listed(absent, maximum=100),
            written_otherwise(absent, keys),
        )


def _listed(names: set[str], maximum: int = 10) -> str:
    shown = ", ".join(sorted(names)[:maximum])
    return f"{shown} and {len(names) - maximum} more" if len(names) > maximum else shown
