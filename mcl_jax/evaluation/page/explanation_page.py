"""The page that shows what the distance between two walks is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcl_jax.evaluation import colours
from mcl_jax.evaluation.explanation import ExplainedWalk, Explanation
from mcl_jax.evaluation.page.explanation_pictures import heat_picture, painted, shaded
from mcl_jax.evaluation.page.templating import render
from mcl_jax.evaluation.retrieval import spread
from mcl_jax.utils.names import short_name
from mcl_jax.utils.strips import Strip

IN_FILM = 4  # silhouettes of a walk
TOP_FRAMES = 3  # of a part
_NAME_LENGTH = 40
_SHARPEST = 99.8  # percentile of the gradient that has the darkest colour: single pixels may be far above


@dataclass(frozen=True)
class _Cut:
    """The parts that cut a frame into equally many strips, in one branch of a model."""

    branch: str
    parts: tuple[int, ...]

    @property
    def title(self) -> str:
        count = f"{len(self.parts)} strip{'s' * (len(self.parts) > 1)}"
        return f"{self.branch} branch, {count}" if self.branch else count


def explanation_page(explanation: Explanation, facts: Mapping[str, str]) -> bytes:
    """Returns the content of the page.

    Args:
        explanation: what it shows.
        facts: more for its head, such as the decision.
    """
    cuts = _cuts(explanation.strips)
    # A file's name may hold what is no text.
    whole = [walk.name.encode(errors="backslashreplace").decode() for walk in explanation.walks]
    names = [short_name(name, _NAME_LENGTH) for name in whole]
    saliency = _saliency(explanation)
    return render(
        "explanation.html.j2",
        title=f"Why these two? {names[0]} and {names[1]}",
        heading="Why these two?",
        rules=f"{whole[0]} and {whole[1]}",
        facts=dict(facts) | {"model": explanation.model},
        model=explanation.model,
        names=names,
        films=_films(explanation, cuts),
        cuts=[_bars(explanation, cut) for cut in cuts],
        rows=_rows(explanation, cuts),
        branches=sorted({strip.branch for strip in explanation.strips} - {""}),
        frames=_frames(explanation, cuts),
        known=bool(explanation.strips),
        reach=explanation.reach,
        group=explanation.walks[0].group,
        saliency=saliency,
    )


def _cuts(strips: Sequence[Strip]) -> list[_Cut]:
    """The parts by branch and number of strips, in the model's order."""
    cuts: dict[tuple[str, int], list[int]] = {}
    for part, strip in enumerate(strips):
        cuts.setdefault((strip.branch, round(1 / (strip.bottom - strip.top))), []).append(part)
    return [_Cut(branch, tuple(parts)) for (branch, _), parts in cuts.items()]


def _finest(cuts: Sequence[_Cut]) -> list[_Cut]:
    """Of each branch the cut with the most strips."""
    best: dict[str, _Cut] = {}
    for cut in cuts:
        if cut.branch not in best or len(cut.parts) > len(best[cut.branch].parts):
            best[cut.branch] = cut
    return list(best.values())


def _films(explanation: Explanation, cuts: Sequence[_Cut]) -> list[str]:
    """Some silhouettes of each walk, every strip in the colour of its distance."""
    largest = max(float(explanation.distances.max()), np.finfo(float).tiny)
    films = []
    for walk in explanation.walks:
        some = spread(np.arange(len(walk.silhouettes)), IN_FILM)
        heat = np.zeros((walk.silhouettes.shape[1], 1))
        if cuts:
            parts = np.array(_finest(cuts)[0].parts)
            rows = (np.arange(len(heat)) * len(parts)) // len(heat)
            heat[:, 0] = explanation.distances[parts[rows]] / largest
        films.append(painted(walk.silhouettes[some], heat, all_pixels=False))
    return films


def _bars(explanation: Explanation, cut: _Cut) -> dict[str, Any]:
    """A bar for each part of a cut, as high and as deep as its strip."""
    largest = max(float(explanation.distances.max()), np.finfo(float).tiny)
    bars = []
    for number, part in enumerate(cut.parts, start=1):
        strip, value = explanation.strips[part], float(explanation.distances[part])
        bars.append(
            {
                "top": f"{100 * strip.top:.4g}",
                "height": f"{100 * (strip.bottom - strip.top):.4g}",
                "width": f"{100 * max(value, 0.0) / largest:.4g}",
                "colour": colours.heat(value / largest),
                "text": f"{value:.3g}",
                "title": f"strip {number} of {len(cut.parts)} from the top: {value:.4g}",
            }
        )
    return {"title": cut.title, "bars": bars, "labelled": len(cut.parts) <= 16}


def _rows(explanation: Explanation, cuts: Sequence[_Cut]) -> list[dict[str, str]]:
    """The table of all parts."""
    place = {
        part: f"{cut.title}: {i} from the top" for cut in cuts for i, part in enumerate(cut.parts, start=1)
    }
    total = float(explanation.distances.sum())
    return [
        {
            "part": str(part + 1),
            "place": place.get(part, "not known"),
            "distance": f"{value:.4g}",
            "share": f"{100 * value / total:.1f}" if total > 0 else "–",
        }
        for part, value in enumerate(explanation.distances.tolist())
    ]


def _frames(explanation: Explanation, cuts: Sequence[_Cut]) -> list[dict[str, Any]]:
    """Of each branch with maxima of its own: a map for each walk, and the frames that gave most."""
    given = [walk.shares for walk in explanation.walks if walk.shares is not None]
    if len(given) < len(explanation.walks):
        return []
    branches: list[_Cut] = []
    for cut in _finest(cuts):  # branches made of the same maxima are shown once
        if not any(
            all(np.array_equal(shares[list(cut.parts)], shares[list(other.parts)]) for shares in given)
            for other in branches
            if len(other.parts) == len(cut.parts)
        ):
            branches.append(cut)
    largest = max(float(shares[list(cut.parts)].max()) for cut in branches for shares in given)
    return [
        {
            "title": cut.branch if len(branches) > 1 else "",
            "largest": f"{100 * largest:.1f}",
            "maps": [
                {
                    "picture": heat_picture(walk.shares[list(cut.parts)] / largest),
                    "person": shaded(walk.silhouettes[len(walk.silhouettes) // 2], 0.0, 1.0),
                    "last": walk.shares.shape[1] * walk.group,
                    "even": f"{100 / walk.shares.shape[1]:.1f}",
                }
                for walk in explanation.walks
                if walk.shares is not None
            ],
            "parts": [
                {
                    "number": i,
                    "walks": [_top(walk, explanation.strips[part], part) for walk in explanation.walks],
                }
                for i, part in enumerate(cut.parts, start=1)
            ],
        }
        for cut in branches
    ]


def _top(walk: ExplainedWalk, strip: Strip, part: int) -> list[dict[str, str]]:
    """The frames that gave most of a part's maxima."""
    assert walk.shares is not None
    shares = walk.shares[part]
    best = np.argsort(-shares, kind="stable")[:TOP_FRAMES].tolist()
    return [
        {
            "picture": shaded(walk.silhouettes[_middle(walk, i)], strip.top, strip.bottom),
            "frame": _frame_name(walk, i),
            "share": f"{100 * shares[i]:.0f} %",
        }
        for i in best
    ]


def _middle(walk: ExplainedWalk, group: int) -> int:
    return min(group * walk.group + walk.group // 2, len(walk.silhouettes) - 1)


def _frame_name(walk: ExplainedWalk, group: int) -> str:
    first = group * walk.group + 1
    last = min(first + walk.group - 1, len(walk.silhouettes))
    return str(first) if last <= first else f"{first}–{last}"


def _saliency(explanation: Explanation) -> list[dict[str, Any]]:
    """Of each walk its mean and the frames that matter most; empty if no pixel does."""
    means = [walk.saliency.mean(axis=0) for walk in explanation.walks]
    sharpest = max(float(np.percentile(walk.saliency, _SHARPEST)) for walk in explanation.walks)
    largest = max(float(mean.max()) for mean in means)
    if largest <= 0 or sharpest <= 0:
        return []
    shown = []
    for walk, mean in zip(explanation.walks, means, strict=True):
        total = walk.saliency.sum(axis=(1, 2))
        best = np.sort(np.argsort(-total, kind="stable")[:IN_FILM])
        typical = np.where(walk.silhouettes.mean(axis=0) >= 128, 255, 0).astype(np.uint8)
        shown.append(
            {
                "mean": painted(typical[None], mean / largest, all_pixels=True),
                "film": painted(walk.silhouettes[best], walk.saliency[best] / sharpest, all_pixels=True),
                "frames": ", ".join(str(i + 1) for i in best.tolist()),
            }
        )
    return shown
