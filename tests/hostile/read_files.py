"""Reads files by their endings, with limits on memory and time; prints each result as JSON.

python read_files.py FOLDER MEBIBYTES SECONDS
"""

import json
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

import cv2

from mcl_jax.convert.torch_reader import read_torch_file
from mcl_jax.data.prepare.silhouette import read_png
from mcl_jax.data.sequences import SequenceRef, read_partition
from mcl_jax.data.stores.manifest import check_files, read_manifest
from mcl_jax.data.stores.tree import PklSource
from mcl_jax.errors import UserError
from mcl_jax.evaluation.embeddings import EmbeddingSet

READERS = {
    ".pkl": lambda path: PklSource().read(SequenceRef("001", "nm-01", "000", str(path))),
    ".pt": read_torch_file,
    ".npz": EmbeddingSet.load,
    ".png": read_png,
    ".json": read_partition,
    ".records": lambda path: check_files(path, read_manifest(path)),
}


def address_space() -> int:
    """Returns how much the process has now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    folder, mebibytes, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("error")
    cv2.setNumThreads(1)
    paths = sorted(folder.iterdir())
    most = address_space() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, in whatever code it is
    for path in paths:
        print(f"{path.name} …", file=sys.stderr, flush=True)
        signal.alarm(seconds)
        start = time.perf_counter()
        try:
            READERS[path.suffix](path)
            outcome = "read"
        except UserError as error:
            outcome = str(error)
        except BaseException as error:  # whatever else there is, is what the test looks for
            outcome = f"{type(error).__name__}: {error}"
        signal.alarm(0)
        print(json.dumps({"path": str(path), "outcome": outcome, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
