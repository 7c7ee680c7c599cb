"""The table of evaluation protocols; `scoring` computes the figures of all of them.

A protocol says which sequences are probes and gallery, which gallery sequences are hidden from a probe, how
comparisons are divided into blocks, and which figures are computed and rounded. To add one, add an entry.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.rerank import Rerank


class Chosen(enum.Enum):
    """Ways to choose sequences other than by condition; the values are used in messages."""

    PROBE_SET = "the sequences of the partition's PROBE_SET"
    GALLERY_SET = "the sequences of the partition's GALLERY_SET"
    THE_REST = "every other sequence, or those of the partition's GALLERY_SET if it has one"
    EVERY_OTHER = "every other sequence"


PROBE_SET, GALLERY_SET, THE_REST, EVERY_OTHER = Chosen
EVERY = ("*",)  # conditions that choose every sequence


@dataclass(frozen=True)
class Subjects:
    """Chooses every sequence of some subjects, instead of by condition.

    Attributes:
        names: names of the subjects.
    """

    names: tuple[str, ...]


Choice = tuple[str, ...] | Chosen | Subjects
"""A choice of sequences: a tuple of conditions, in which * stands for any text, or one of the others."""


@dataclass(frozen=True)
class Submission:
    """Format of the CSV file that a benchmark scores: per probe a line with its view and nearest subjects.

    Attributes:
        header: names of the columns: the first is for the probe, the others for subjects, nearest first.
        numbers: whether subjects are written as numbers instead of the names of their folders.
    """

    header: tuple[str, ...]
    numbers: bool = False

    @property
    def length(self) -> int:
        """Number of subjects in a line."""
        return len(self.header) - 1


@dataclass(frozen=True)
class Protocol:
    """The rules of an evaluation.

    Attributes:
        name: key in `PROTOCOLS`.
        data: name of the dataset for titles; use `dataclasses.replace` for other data with the same rules.
        gallery: the gallery, or one gallery for each group of probes. A sequence may also be a probe; it is
            never compared with itself.
        probes: the probes of each group; figures are per group. A sequence may be in several groups.
        blocks: which sequences are ranked together. "all": every probe against the whole gallery.
            "probe_view": the probes of one view against the whole gallery. "view_pair": the probes of one
            view against the gallery of one view. Figures are the mean over gallery views, then probe views.
        leave_out: "identical_view": blocks of the same view do not count in the mean. "own_view": gallery
            sequences with the subject and view of the probe are hidden from it.
        figures: "Rank-k" for any k, "mAP", "mINP", in the order of the published table.
        unmatched: treatment of a probe whose subject is not in the gallery. "error": refuse the data.
            "wrong": count it as a miss. "skip": leave it out. "wrong_rank": count it as a miss in ranks, and
            leave it out of mAP and mINP.
        decimals: decimals to which each block's percentages are rounded before taking means; None = not.
        views: the only views that may occur; None = any.
        view_ends: the view is the part of a folder's name before this text, such as camera 01 in 01_0;
            empty: the whole name.
        unused: conditions that are neither probes nor gallery; unknown conditions are an error.
        unused_views: views that are neither probes nor gallery.
        mean: whether the mean over groups is reported; False if one group has the probes of all others.
        rerank: parameters of re-ranking, used if the user asks for it.
        submit: format of the submission file, if only the benchmark can score; None = scored here.
        rules: the rules in a few words, for titles; empty if the name of the data suffices.

    Raises:
        ConfigError: if the rules contradict each other.
    """

    name: str
    data: str
    gallery: Choice | Mapping[str, Choice]
    probes: Mapping[str, Choice]
    blocks: Literal["all", "probe_view", "view_pair"] = "all"
    leave_out: Literal["nothing", "identical_view", "own_view"] = "nothing"
    figures: tuple[str, ...] = ("Rank-1",)
    unmatched: Literal["error", "wrong", "wrong_rank", "skip"] = "error"
    decimals: int | None = 2
    views: tuple[str, ...] | None = None
    view_ends: str = ""
    unused: tuple[str, ...] = ()
    unused_views: tuple[str, ...] = ()
    mean: bool = True
    rerank: Rerank = field(default_factory=Rerank)
    submit: Submission | None = None
    rules: str = ""

    @property
    def title(self) -> str:
        """Heading of the table and of the pictures."""
        return f"{self.data}, {self.rules}" if self.rules else self.data

    @property
    def galleries(self) -> dict[str, Choice]:
        """Group of probes → its gallery."""
        if isinstance(self.gallery, Mapping):
            return dict(self.gallery)
        return dict.fromkeys(self.probes, self.gallery)

    def __post_init__(self) -> None:
        if self.leave_out == "identical_view" and self.blocks != "view_pair":
            raise ConfigError(f"protocol {self.name}: leave_out identical_view needs blocks view_pair")
        if self.galleries.keys() != self.probes.keys():
            raise ConfigError(
                f"protocol {self.name}: gallery has the groups {', '.join(self.galleries)}, but probes has "
                f"{', '.join(self.probes)}: use the same groups in both"
            )
        if THE_REST in self.probes.values():
            raise ConfigError(f"protocol {self.name}: THE_REST is for galleries: use EVERY_OTHER for probes")
        others = (THE_REST, EVERY_OTHER)
        for group, probes in self.probes.items():
            if probes is EVERY_OTHER and self.galleries[group] in others:
                raise ConfigError(
                    f"protocol {self.name}: {group}: probes and gallery are each defined as all "
                    "sequences not in the other: name the conditions of one of them"
                )


def _casiae(scenes: tuple[str, ...], clothing: str) -> tuple[str, ...]:
    return tuple(
        f"{height}-{scene}-{clothing}-{time}" for height in "HL" for scene in scenes for time in (1, 2)
    )


# Group → (conditions of its probes, conditions of its gallery).
_CCPG = {
    "CL": (("U0_D0_BG", "U0_D0"), ("U1_D1", "U2_D2", "U3_D3")),
    "UP": (("U3_D3",), ("U0_D3",)),
    "DN": (("U1_D0",), ("U1_D1",)),
    "BG": (("U0_D0_BG",), ("U0_D0",)),
}
_CCPG_PROBES = {group: probes for group, (probes, _) in _CCPG.items()}
_CCPG_GALLERY = {group: gallery for group, (_, gallery) in _CCPG.items()}

_ELSEWHERE = ("scene2", "scene3", "scene3_s")
_OUMVLP_VIEWS = tuple(f"{degree:03d}" for degree in (*range(0, 91, 15), *range(180, 271, 15)))

_ALL_PROTOCOLS = (
    Protocol(
        name="casiab",
        data="CASIA-B",
        rules="gallery of one view, identical view left out",
        gallery=("nm-01", "nm-02", "nm-03", "nm-04"),
        probes={"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")},
        blocks="view_pair",
        leave_out="identical_view",
    ),
    Protocol(
        name="casiab_cross_view",
        data="CASIA-B",
        rules="gallery of all views, own view of the same subject left out",
        gallery=("nm-02", "bg-02", "cl-02"),
        probes={"NM": ("nm-01",), "BG": ("bg-01",), "CL": ("cl-01",)},
        blocks="probe_view",
        leave_out="own_view",
        figures=("Rank-1", "mAP"),
        unused=("nm-03", "nm-04", "nm-05", "nm-06"),
    ),
    Protocol(
        name="casiab_all_views",
        data="CASIA-B",
        rules="gallery of all views, identical view among them",
        gallery=("nm-01", "nm-02", "nm-03", "nm-04"),
        probes={"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")},
    ),
    Protocol(
        name="gait3d",
        data="Gait3D",
        gallery=THE_REST,
        probes={"all": PROBE_SET},
        figures=("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"),
        unmatched="skip",
        decimals=None,
    ),
    Protocol(
        name="freegait",
        data="FreeGait",
        gallery=EVERY_OTHER,  # its partition has a GALLERY_SET, which the reference does not read
        probes={"all": PROBE_SET},
        figures=("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"),
        unmatched="skip",
        decimals=None,
    ),
    Protocol(
        name="grew_local",
        data="GREW",
        rules="test gallery only: condition 02 against 01",
        gallery=("01",),
        probes={"all": ("02",)},
        figures=("Rank-1", "Rank-5", "Rank-10", "Rank-20"),
        unused=("03",),
    ),
    Protocol(
        name="grew_submission",
        data="GREW submission",
        gallery=("01", "02"),
        probes={"all": ("03",)},
        submit=Submission(("videoId", *(f"rank{i}" for i in range(1, 21))), numbers=True),
    ),
    Protocol(
        name="oumvlp",
        data="OU-MVLP",
        rules="gallery of one view, identical view left out",
        gallery=("01",),
        probes={"all": ("00",)},
        blocks="view_pair",
        leave_out="identical_view",
        unmatched="wrong",  # many sequences are missing in this dataset; published figures count these probes
        views=_OUMVLP_VIEWS,
    ),
    Protocol(
        name="oumvlp_cross_view",
        data="OU-MVLP",
        rules="gallery of all views, own view of the same subject left out",
        gallery=("01",),
        probes={"all": ("00",)},
        blocks="probe_view",
        leave_out="own_view",
        figures=("Rank-1", "mAP"),
        unmatched="wrong_rank",  # as in the reference
        views=_OUMVLP_VIEWS,
    ),
    Protocol(
        name="casiae",
        data="CASIA-E",
        rules="gallery of one view, identical view and view 270 left out",
        gallery=_casiae(("scene1",), "nm"),
        probes={
            "NM": _casiae(_ELSEWHERE, "nm"),
            "BG": _casiae(_ELSEWHERE, "bg"),
            "CL": _casiae(_ELSEWHERE, "cl"),
        },
        blocks="view_pair",
        leave_out="identical_view",
        unmatched="wrong",
        unused=(*_casiae(("scene1",), "bg"), *_casiae(("scene1",), "cl")),
        unused_views=("270",),
    ),
    Protocol(
        name="ccpg_gait",
        data="CCPG",
        rules="gait: gallery of one camera, identical camera left out",
        gallery=_CCPG_GALLERY,
        probes=_CCPG_PROBES,
        blocks="view_pair",
        leave_out="identical_view",
        unmatched="wrong",
        view_ends="_",
    ),
    Protocol(
        name="ccpg_reid",
        data="CCPG",
        rules="re-identification: gallery of all cameras, own camera of the same subject left out",
        gallery=_CCPG_GALLERY,
        probes=_CCPG_PROBES,
        leave_out="own_view",
        figures=("Rank-1", "mAP", "mINP"),
        unmatched="skip",
        decimals=None,
        view_ends="_",
    ),
    Protocol(
        name="sustech1k",
        data="SUSTech1K",
        rules="gallery of one view, identical view left out",
        gallery=("*00-nm*",),
        probes={
            "NM": ("*01-nm*",),
            **{group: (f"*{group.lower()}*",) for group in ("BG", "CL", "CR", "UB", "UF", "OC", "NT")},
            "all": ("*01*", "*02*", "*03*", "*04*"),
        },
        blocks="view_pair",
        leave_out="identical_view",
        figures=("Rank-1", "Rank-5"),
        unmatched="wrong",
        mean=False,  # a walk is in several groups, and "all" is the figure of the literature
    ),
    Protocol(
        name="ccgr_mini",
        data="CCGR-MINI",
        gallery=GALLERY_SET,
        probes={"all": EVERY_OTHER},
        figures=("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"),
        unmatched="skip",
        decimals=None,
    ),
    Protocol(
        name="hid_submission",
        data="HID submission",
        gallery=EVERY_OTHER,
        probes={"all": Subjects(("probe",))},
        rerank=Rerank(k1=6, k2=6, lam=0.3),  # as in the benchmark's baseline
        submit=Submission(("videoID", "label")),
    ),
    Protocol(
        name="leave_one_out",
        data="All sequences",
        rules="each against all others",
        gallery=EVERY,
        probes={"all": EVERY},
        figures=("Rank-1", "Rank-5", "mAP"),
        unmatched="skip",
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL_PROTOCOLS}


def get_protocol(name: str) -> Protocol:
    """Returns the protocol with this name.

    Raises:
        ConfigError: if there is none; the message lists the known names.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol: {name!r} is unknown: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
