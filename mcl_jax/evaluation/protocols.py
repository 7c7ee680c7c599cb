"""Evaluation protocols as data; `scoring` is the one engine that scores by them.

A protocol says which sequences are probes and which are gallery, what a probe may not see, in which blocks
probes meet the gallery, and which figures come out, rounded how. A new one is one more entry below.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mcl_jax.errors import ConfigError


class Listed(enum.Enum):
    """Sequences that are not told by their condition; the value says which, for messages."""

    PROBE_SET = "the sequences of the partition's PROBE_SET"
    THE_REST = "every sequence that is not a probe"


PROBE_SET: Final = Listed.PROBE_SET
THE_REST: Final = Listed.THE_REST
EVERY = ("*",)  # as conditions: every sequence, of whichever condition


@dataclass(frozen=True)
class Protocol:
    """The rules of an evaluation.

    Attributes:
        name: key in `PROTOCOLS`.
        data: what is scored, as titles name it; `dataclasses.replace` it where the rules are used on others.
        gallery: conditions of the gallery, or `EVERY`, or `THE_REST`. A sequence may be a probe as well: it
            never meets itself.
        probes: conditions of the probes per group, or `EVERY`, or `PROBE_SET`; figures are per group.
        blocks: what is ranked together. "all": every probe against the whole gallery. "probe_view": the
            probes of one view against the whole gallery. "view_pair": the probes of one view against the
            gallery of one view. Figures are the mean over gallery views, then over probe views.
        leave_out: "identical_view": pairs of the same view do not enter the mean. "own_view": a probe does
            not see its own subject's gallery sequences of its own view.
        figures: "Rank-k" for any k, "mAP", "mINP", in the order of the published table.
        unmatched: what a probe counts for whose subject is not in the gallery: "error" refuses the data,
            "wrong" ranks it as a miss, "skip" leaves it out. "wrong_rank" ranks it as a miss and leaves it
            out of mAP and mINP.
        decimals: each block's percentages are rounded to these before any mean; None = not rounded.
        views: the only views that may occur; None = any.
        unused: conditions of the dataset that are neither probes nor gallery; any others are an error.
        unused_views: views whose sequences are neither.
        submit: length of the list of nearest subjects per probe in a submission file, which only the
            benchmark scores; 0 = scored here.
        rules: the rules in a few words, for titles; empty where the name of the data says them.

    Raises:
        ConfigError: if the rules contradict each other.
    """

    name: str
    data: str
    gallery: tuple[str, ...] | Literal[Listed.THE_REST]
    probes: Mapping[str, tuple[str, ...] | Literal[Listed.PROBE_SET]]
    blocks: Literal["all", "probe_view", "view_pair"] = "all"
    leave_out: Literal["nothing", "identical_view", "own_view"] = "nothing"
    figures: tuple[str, ...] = ("Rank-1",)
    unmatched: Literal["error", "wrong", "wrong_rank", "skip"] = "error"
    decimals: int | None = 2
    views: tuple[str, ...] | None = None
    unused: tuple[str, ...] = ()
    unused_views: tuple[str, ...] = ()
    submit: int = 0
    rules: str = ""

    @property
    def title(self) -> str:
        """Heading of the table and of the pictures."""
        return f"{self.data}, {self.rules}" if self.rules else self.data

    def __post_init__(self) -> None:
        if self.leave_out == "identical_view" and self.blocks != "view_pair":
            raise ConfigError(f"protocol {self.name}: leave_out identical_view needs blocks view_pair")


def _casiae(scenes: tuple[str, ...], clothing: str) -> tuple[str, ...]:
    return tuple(
        f"{height}-{scene}-{clothing}-{time}" for height in "HL" for scene in scenes for time in (1, 2)
    )


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
        gallery=THE_REST,
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
        submit=20,
    ),
    Protocol(
        name="oumvlp",
        data="OU-MVLP",
        rules="gallery of one view, identical view left out",
        gallery=("01",),
        probes={"all": ("00",)},
        blocks="view_pair",
        leave_out="identical_view",
        unmatched="wrong",  # many sequences of this dataset are missing, and published figures count them
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
        unmatched="wrong_rank",  # as the reference counts
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
    """The protocol of this name.

    Raises:
        ConfigError: if there is none; the message lists those that exist.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol: {name!r} is unknown: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
