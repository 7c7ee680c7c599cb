"""The compiled library of convolutions in the user's cache."""

import os
from pathlib import Path

import jax
import numpy as np

from mcl_jax.evaluation.distances import pairwise_distances
from mcl_jax.ops.cpu import library
from targets.base import Stored

# A library that does not fit is compiled anew, at each try: this gives what was compiled first.
COMPILER = """\
#!/bin/sh
case "$*" in *-shared*) ;; *) exec c++ "$@" ;; esac
for out; do :; done
[ -f "$0.so" ] || c++ "$@" -o "$0.so"
cp "$0.so" "$out"
"""


class NativeCache(Stored):
    harm_is = "bits of the kept library"
    mebibytes = 4096

    def make(self, folder: Path) -> None:
        compiler = folder.with_name("compiler")
        compiler.write_text(COMPILER)
        compiler.chmod(0o755)
        self.answer(folder)

    def answer(self, folder: Path) -> str:
        os.environ["XDG_CACHE_HOME"] = str(folder)
        os.environ["CXX"] = str(folder.with_name("compiler"))
        assert library.library() is not None
        rng = np.random.default_rng(0)
        first, second = (rng.standard_normal((9, 2, 8)).astype(np.float32) for _ in range(2))
        return np.asarray(jax.device_get(pairwise_distances(first, second))).tobytes().hex()
