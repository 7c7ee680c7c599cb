"""`mcl-jax check`: verifies files against the digests in them."""

import argparse
import json
from pathlib import Path

from mcl_jax.data.datasets import DATASETS
from mcl_jax.data.stores.array_record import open_records
from mcl_jax.data.stores.frames import SILHOUETTES
from mcl_jax.data.stores.manifest import RECORDS_MANIFEST, read_manifest
from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import INDEX
from mcl_jax.utils.digest import DigestError, check_seal
from mcl_jax.utils.files import read_bounded
from mcl_jax.utils.npz import read_npz

HELP = "check whether records, galleries, embeddings, models or metrics are damaged"

EXAMPLES = """\
  mcl-jax check data/grew                                # reads every record
  mcl-jax check G runs/a/test/embeddings.npz runs/a/test/metrics.json pocket.npz
"""

_LARGEST = 1 << 26  # bytes of a JSON file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the paths."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="folder of records or of a gallery, .npz, or .json"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints a line for each path.

    Raises:
        UserError: at the first path that is damaged, or that can have no digest.
    """
    for path in map(Path, arguments.paths):
        print(f"{path}: {_check(path)}", flush=True)


def _check(path: Path) -> str:
    if (path / RECORDS_MANIFEST).is_file():
        return _check_records(path)
    if (path / INDEX).is_file():
        gallery = open_gallery(path)
        gallery.check()
        return f"{sum(gallery.people().values())} walks, sound"
    if path.suffix == ".npz":
        return _check_npz(path)
    if path.suffix == ".json":
        return _check_json(path)
    raise DataError(f"{path}: is not a folder of records, a gallery, an .npz or a .json; give one of these")


def _check_records(root: Path) -> str:
    manifest = read_manifest(root)
    known = DATASETS.get(manifest.dataset)
    sequences, source = open_records(root, known.pixels if known else SILHOUETTES)
    for sequence in sequences:
        source.read(sequence)
    state = "sound" if manifest.checksums else "readable, but without digests to compare"
    return f"{len(sequences)} records, {state}"


def _check_npz(path: Path) -> str:
    if "about" in read_npz(path, (), remedy="give another"):
        from mcl_jax.weights.packed import read_packed  # imports JAX

        read_packed(path)
        return "a model, sound"
    return f"{len(EmbeddingSet.load(path))} embeddings, sound"


def _check_json(path: Path) -> str:
    try:
        content = json.loads(read_bounded(path, _LARGEST))
        has_digest = isinstance(content, dict) and check_seal(content)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except DigestError as error:
        raise DataError(f"{path}: damaged or changed: {error}; take a copy of the file") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is not JSON; take a copy of the file") from None
    return "sound" if has_digest else "readable, but without a digest to compare"
