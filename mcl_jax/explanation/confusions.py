"""Pages that explain the confusions of a test."""

from collections.abc import Callable

import jax
import numpy as np

from mcl_jax.evaluation.distances import part_distances
from mcl_jax.evaluation.embeddings import EmbeddingSet, ExplainFn, SilhouetteFn
from mcl_jax.explanation.explain import Explainer
from mcl_jax.models.registry import Model, model_of
from mcl_jax.utils.pytrees import ArrayTree

PageMaker = Callable[[EmbeddingSet, SilhouetteFn], ExplainFn]
"""Function of embeddings and the frames of their sequences; returns one that explains two of them."""


def page_maker(model: Model, params: ArrayTree, batch_stats: ArrayTree, *, metric: str) -> PageMaker:
    """Returns a function that makes explanation pages for the sequences of a test.

    Args:
        model: that embedded them, in any precision.
        params: its parameters.
        batch_stats: its running statistics.
        metric: of the distances, "euc" or "cos".
    """

    def pages_of(embeddings: EmbeddingSet, silhouettes: SilhouetteFn) -> ExplainFn:
        from mcl_jax.evaluation.page.explanation_page import explanation_page  # of the extra `report`

        arrays = jax.device_put(jax.device_get((params, batch_stats)), jax.local_devices()[0])
        explainer = Explainer(model_of(model.block, dtype="float32"), *arrays)

        def page(probe: int, nearest: int) -> bytes:
            pair = embeddings.embeddings[[probe, nearest]]
            walks = [silhouettes(probe), silhouettes(nearest)]
            names = [embeddings.key(probe), embeddings.key(nearest)]
            distance = float(np.mean(part_distances(*pair, metric=metric)))
            explanation = explainer.explain(walks, names, pair, metric=metric)
            return explanation_page(explanation, {"distance": f"{distance:.4g} ({metric})"})

        return page

    return pages_of
