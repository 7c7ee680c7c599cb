"""The page of `mcl-jax compare --explain`."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcl_jax.api import Gait
from mcl_jax.cli.commands.walk_argument import Walk
from mcl_jax.errors import ConfigError
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.files import write_atomically


def require_page(path: Path) -> None:
    """Checks that a page can be made and written, before any walk is read.

    Raises:
        ConfigError: if its name does not end in .html, so that no walk is overwritten, or its folder cannot
            be written to.
        MissingExtraError: if the extra `report` is not installed.
    """
    require_extra("report", "--explain", "jinja2", "matplotlib")
    if path.suffix != ".html":
        raise ConfigError(f"--explain: {path} does not end in .html; give the name of a page to write")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"--explain: {path} cannot be written; give a file in a folder of your own")


def require_short(walks: Sequence[Walk]) -> None:
    """Checks that walks are short enough to explain, before the model is loaded.

    Raises:
        DataError: naming the first that is too long.
    """
    from mcl_jax.explanation.explain import check_length

    for walk in walks:
        check_length(walk.label, len(walk.silhouettes))


def write_explanation(
    path: Path,
    gait: Gait,
    walks: Sequence[Walk],
    embeddings: np.ndarray,
    *,
    metric: str,
    facts: dict[str, str],
) -> None:
    """Writes the page.

    Args:
        path: of the page.
        gait: the model.
        walks: both.
        embeddings: of both, [2, parts, channels].
        metric: of the distance.
        facts: for the head of the page.

    Raises:
        UserError: if it cannot be written, or a gradient is not finite.
    """
    from mcl_jax.evaluation.page.explanation_page import explanation_page  # of the extra `report`
    from mcl_jax.explanation.explain import Explainer

    silhouettes, names = [walk.silhouettes for walk in walks], [walk.label for walk in walks]
    explanation = gait.program(Explainer).explain(silhouettes, names, embeddings, metric=metric)
    write_atomically(path, explanation_page(explanation, facts))
