"""Time of distances and metrics as the gallery doubles; each ratio near 2 means linear growth.

python benchmarks/scoring_scale.py --probes 6000 --gallery 3000 6000 12000
"""

import argparse
import resource
import time

import jax
import numpy as np

from mcl_jax.evaluation import metrics
from mcl_jax.evaluation.distances import pairwise_distances


def measure(probes: int, gallery: int, parts: int, channels: int) -> tuple[float, float, float]:
    """Seconds for distances, rank-k, and average precision."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((probes, parts, channels), np.float32)
    y = rng.standard_normal((gallery, parts, channels), np.float32)
    match = rng.integers(0, 1000, probes)[:, None] == rng.integers(0, 1000, gallery)
    start = time.perf_counter()
    distances = pairwise_distances(x, y)
    seconds = [time.perf_counter() - start]
    for metric in (metrics.first_match_ranks, metrics.average_precision):
        start = time.perf_counter()
        metric(distances, match)
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1], seconds[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=6000)
    parser.add_argument("--gallery", type=int, nargs="+", default=[3000, 6000, 12000])
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--channels", type=int, default=256)
    args = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}; {args.probes} probes, embeddings [{args.parts}, {args.channels}]")
    measure(args.probes // 4, args.gallery[0] // 4, args.parts, args.channels)  # compiles and warms up
    print(f"{'gallery':>8}{'distances s':>13}{'rank-k s':>10}{'AP s':>8}{'× distances':>13}{'peak MB':>9}")
    before = None
    for gallery in args.gallery:
        distances, ranks, precision = measure(args.probes, gallery, args.parts, args.channels)
        ratio = f"{distances / before:.2f}" if before else ""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{gallery:>8}{distances:>13.2f}{ranks:>10.2f}{precision:>8.2f}{ratio:>13}{peak:>9.0f}",
            flush=True,
        )
        before = distances


if __name__ == "__main__":
    main()
