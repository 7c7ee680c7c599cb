"""Times the listing of a dataset of GREW's size: from the tree, from its cache, and from records.

python benchmarks/listing.py --sequences 127000
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from mcl_jax.data.stores.array_record import open_records
from mcl_jax.data.stores.listing import CACHE_NAME, list_tree
from mcl_jax.data.stores.manifest import RecordsManifest, StoredSequence, write_manifest
from mcl_jax.data.stores.tree import scan_tree

VIEWS_PER_SUBJECT = 5


def build_tree(root: Path, sequences: int) -> None:
    """Writes empty files: listing does not look into them."""
    for number in range(sequences):
        folder = root / f"{number // VIEWS_PER_SUBJECT:05d}train" / "00" / f"{number:08d}"
        folder.mkdir(parents=True)
        (folder / f"{number:08d}.pkl").touch()
    past = time.time() - 60  # a tree just written is not cached yet
    for folder, _, _ in os.walk(root):
        os.utime(folder, (past, past))


def build_records(root: Path, tree: Path) -> None:
    """Writes a manifest without its files."""
    sequences = tuple(StoredSequence(s.subject, s.condition, s.view, 100) for s in scan_tree(tree))
    root.mkdir()
    write_manifest(root, RecordsManifest("tree", "", 0, 0, {}, sequences))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=127_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree, records = Path(folder, "tree"), Path(folder, "records")
        print(f"building a tree of {args.sequences} sequences", file=sys.stderr)
        build_tree(tree, args.sequences)
        build_records(records, tree)
        runs = (
            ("list_tree, no cache yet", lambda: list_tree(tree)),
            ("list_tree, cached", lambda: list_tree(tree)),
            ("open_records", lambda: open_records(records)[0]),
        )
        for name, run in runs:
            start = time.perf_counter()
            count = len(run())
            print(f"{name:<26}{time.perf_counter() - start:>8.2f} s{count:>10} sequences", flush=True)
        print(f"cache file: {(tree / CACHE_NAME).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
