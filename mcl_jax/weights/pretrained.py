"""A trained model as a folder for others: weights, description and card; and to the Hugging Face Hub."""

import contextlib
import json
from pathlib import Path

from absl import logging

from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.hub.download import explained
from mcl_jax.hub.reference import MODEL_FILE, SCHEME, HubFile, endpoint, parse_reference
from mcl_jax.models.registry import plain_block
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.files import write_atomically
from mcl_jax.weights.card import CARD, Card, licence_of
from mcl_jax.weights.model_file import read_model, write_model

DESCRIPTION = "config.json"


def write_folder(folder: Path, card: Card) -> None:
    """Writes model.safetensors, config.json and README.md into a folder, which is made if it is not there.

    Raises:
        ConfigError: if the licence is no identifier, or the folder has a README.md that would be lost.
        UserError: if a file cannot be written.
    """
    text = card.text()
    if (folder / CARD).exists():
        raise ConfigError(
            f"{folder / CARD}: is there already, and may have been filled in; give a new folder"
        )
    weights = card.weights
    write_model(folder / MODEL_FILE, weights)
    description = {
        "library_name": "mcl_jax",
        "model": plain_block(weights.block),
        "step": weights.step,
        "embedding": [card.parts, card.channels],
        "digest": card.digest,
        "protocol": card.metrics.get("protocol"),
        "scores": card.metrics.get("scores"),
        "recipe": dict(weights.recipe),
    }
    write_atomically(folder / DESCRIPTION, json.dumps(description, indent=1, allow_nan=False).encode())
    write_atomically(folder / CARD, text.encode())


def push_folder(folder: Path, repository: str, *, private: bool) -> str:
    """Uploads a folder that `write_folder` wrote; returns the address of what is there now.

    Args:
        folder: with its card's licence filled in.
        repository: OWNER/REPO, made if it is not there.
        private: whether a new one is seen by its owner alone.

    Raises:
        ConfigError: if the card names no licence, or the repository's name is none.
        CheckpointError: if the folder holds no sound model, or it cannot be uploaded.
        MissingExtraError: if the extra `hub` is not installed.
    """
    remote = _repository(repository)
    if not licence_of(folder / CARD):
        raise ConfigError(f"{folder / CARD}: names no licence; fill in `license:` in its header")
    if read_model(folder / MODEL_FILE) is None:
        raise CheckpointError(f"{folder / MODEL_FILE}: was not written by Gait.save_pretrained")
    require_extra("hub", "uploading a model")
    from huggingface_hub import CommitOperationAdd, HfApi  # of the extra `hub`

    api = HfApi(endpoint=endpoint())
    files = (MODEL_FILE, DESCRIPTION, CARD)
    with explained(remote):
        api.create_repo(remote.repository, private=private, exist_ok=True)
        done = api.create_commit(
            remote.repository,
            [CommitOperationAdd(name, folder / name) for name in files],
            commit_message="Model of mcl_jax",
        )
    logging.info("uploaded to %s", done.commit_url)
    return str(remote)


def _repository(name: str) -> HubFile:
    """Returns a whole repository by its name.

    Raises:
        ConfigError: if it is none.
    """
    with contextlib.suppress(ConfigError):
        remote = parse_reference(SCHEME + name.removeprefix(SCHEME))
        if isinstance(remote, HubFile) and not remote.path and not remote.revision:
            return remote
    raise ConfigError(f"{name}: is no OWNER/REPO")
