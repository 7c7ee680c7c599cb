"""The work behind the endpoints: embed walks in batches, compare them, ask and change the gallery."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from mcl_jax.gallery.search import Search
from mcl_jax.gallery.store import ModelId
from mcl_jax.serving.answers import (
    CompareAnswer,
    EmbedAnswer,
    Embedding,
    EnrollAnswer,
    Identified,
    IdentifyAnswer,
)
from mcl_jax.serving.batching import Batcher, Embed
from mcl_jax.serving.limits import Limits, RequestError
from mcl_jax.serving.metrics import Metrics
from mcl_jax.serving.people import People
from mcl_jax.serving.walk_files import Walks
from mcl_jax.utils.resource_limits import resource_limit
from mcl_jax.utils.terminal import count


class Service:
    """A model and a gallery, ready to answer.

    Attributes:
        limits: of the service.
        metrics: its figures.
    """

    def __init__(self, embed: Embed, model: ModelId, gallery: str | Path, limits: Limits):
        """Opens the gallery and starts the thread that embeds.

        Args:
            embed: gives the embeddings of walks, such as `mcl_jax.Gait.embed`; called by that thread alone.
            model: the model that does.
            gallery: its folder.
            limits: of the service.

        Raises:
            DataError: if the gallery cannot be opened, or is of another model.
        """
        self.limits, self.metrics = limits, Metrics()
        self._model = model
        self._people = People(gallery, model)
        self._batcher = Batcher(embed, limits, self.metrics.note_batch)
        self.metrics.watch_waiting(lambda: len(self._batcher))

    def close(self) -> None:
        """Embeds what still waits, and ends the thread."""
        self._batcher.close()

    async def embed(self, walks: Walks) -> EmbedAnswer:
        """Returns the embeddings of walks.

        Raises:
            RequestError: if too many walks wait.
            DataError: if a walk cannot be embedded.
        """
        embeddings = await self._embed(walks)
        found = [
            Embedding(walk=name, frames=len(frames), embedding=embedding.tolist())
            for (name, frames), embedding in zip(walks, embeddings, strict=True)
        ]
        return EmbedAnswer(model=self._model.digest, walks=found)

    async def compare(self, walks: Walks, far: float | None) -> CompareAnswer:
        """Returns the distance between two walks, and whether one person made both.

        Raises:
            RequestError: if there are not two, or no threshold for the rate.
        """
        if len(walks) != 2:
            raise RequestError(422, f"the request has {count(len(walks), 'walk')}; send two to compare")
        metric, threshold, rate = await asyncio.to_thread(self._people.decision, far)
        one, other = await self._embed(walks)
        distance = float(Search(one[None], metric=metric).distances(other)[0])
        same = None if threshold is None else distance <= threshold
        return CompareAnswer(distance=distance, metric=metric, same=same, threshold=threshold, far=rate)

    async def identify(
        self, walks: Walks, *, far: float | None, threshold: float | None, top: int
    ) -> IdentifyAnswer:
        """Returns the nearest people for each walk; see `mcl_jax.gallery.Gallery.identify`.

        Raises:
            RequestError: if nobody is enrolled, or there is no threshold for the rate.
        """
        embeddings = await self._embed(walks)
        answers = await asyncio.to_thread(
            self._people.identify, embeddings, far=far, threshold=threshold, top=top
        )
        return IdentifyAnswer(
            walks=[
                Identified(walk=name, **answer.as_json())
                for (name, _), answer in zip(walks, answers, strict=True)
            ]
        )

    async def enroll(self, walks: Walks, name: str, *, add: bool) -> EnrollAnswer:
        """Adds walks of a person to the gallery; see `mcl_jax.gallery.Gallery.enroll`.

        Raises:
            RequestError: if somebody has the name already, or the gallery cannot be written.
            DataError: if it cannot be a name.
        """
        embeddings = np.stack(await self._embed(walks))
        frames = [len(silhouettes) for _, silhouettes in walks]
        known, own, people = await asyncio.to_thread(self._people.enroll, name, embeddings, frames, add=add)
        return EnrollAnswer(name=known, walks=own, people=people)

    async def _embed(self, walks: Walks) -> Sequence[np.ndarray]:
        coming = self._batcher.submit([frames for _, frames in walks])
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, coming))
        except Exception as error:
            if (limit := resource_limit(error)) is None:
                raise
            logging.error("a batch was not embedded: %s; %s", limit.what, error)
            raise RequestError(503, f"{limit.what}; try again in a while") from None
