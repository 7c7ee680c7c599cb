"""Times searches in a large gallery: opening it, the first search, and later ones.

python benchmarks/gallery.py --people 100000
"""

import argparse
import tempfile
import time

import numpy as np

from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import ModelId, WalkEntry, append_rows, checksum, read_index, write_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (arguments.people, arguments.parts, arguments.channels)
    with tempfile.TemporaryDirectory() as folder:
        gallery = open_gallery(folder, create=ModelId("none", "0" * 64, *shape[1:]))
        rows = rng.standard_normal(shape, np.float32)
        index = read_index(gallery.path)
        append_rows(gallery.path, index, rows)
        walks = tuple(WalkEntry(f"person {i}", 30, checksum(row)) for i, row in enumerate(rows))
        write_index(gallery.path, type(index)(index.model, index.data, walks, None))
        start = time.perf_counter()
        gallery = open_gallery(folder)
        print(
            f"{arguments.people} people, {rows.nbytes / 1e9:.2f} GB: opened in "
            f"{time.perf_counter() - start:.2f} s"
        )
        times = []
        for i in range(arguments.repeats + 1):
            start = time.perf_counter()
            answer = gallery.identify(rows[i])
            times.append(time.perf_counter() - start)
            assert answer.matches[0].name == f"person {i}"
        print(f"first answer {times[0] * 1e3:.0f} ms, then {np.median(times[1:]) * 1e3:.0f} ms (median)")


if __name__ == "__main__":
    main()
