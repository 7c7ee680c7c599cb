"""GPUs by their data sheets, and their description for XLA's compiler."""

import dataclasses
from typing import Any

from mcl_jax.errors import ConfigError

_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {threads_per_core}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: {shared_opt_in}
  shared_memory_per_core: {shared_per_core}
  core_count: {cores} fpus_per_core: {fp32_per_core} clock_rate_ghz: {clock_ghz}
  memory_bandwidth: {bandwidth} l2_cache_size: {l2_bytes} device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} minor: {minor} {feature} }}
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 9 }} device_description_str: "{name}"
"""


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU by its maker's data sheet.

    Attributes:
        name: common name.
        capability: CUDA's compute capability.
        cores: streaming multiprocessors.
        fp32_per_core: float32 units of each.
        bandwidth_gb: memory bandwidth, 10⁹ bytes a second.
        memory_gb: memory, 10⁹ bytes.
        l2_mb: second-level cache, 2²⁰ bytes.
        clock_ghz: boost clock.
        shared_per_core: bytes of shared memory of a core.
        shared_opt_in: bytes of it that a block may ask for.
        threads_per_core: resident threads of a core.
        half_tflops: dense matrix products in bfloat16 with float32 sums, or in float16 on cards without
            bfloat16; 10¹² operations a second.
        tf32_tflops: the same in TF32; 0 for cards without it.
        float32_tflops: float32 arithmetic without tensor cores.
        has_bfloat16: whether tensor cores take bfloat16.
        accelerated: whether XLA names the chip with its architecture-specific features.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    fp32_per_core: int
    bandwidth_gb: float
    memory_gb: float
    l2_mb: float
    clock_ghz: float
    shared_per_core: int
    shared_opt_in: int
    threads_per_core: int
    half_tflops: float
    tf32_tflops: float
    float32_tflops: float
    has_bfloat16: bool = True
    accelerated: bool = False

    @property
    def target(self) -> str:
        """The card as a `GpuTargetConfigProto` in text form."""
        return _TARGET.format(
            **dataclasses.asdict(self)
            | {
                "bandwidth": round(self.bandwidth_gb * 1e9),
                "memory": round(self.memory_gb * 1e9),
                "l2_bytes": round(self.l2_mb * 2**20),
                "major": self.capability[0],
                "minor": self.capability[1],
                "feature": "feature_extension: ACCELERATED_FEATURES" if self.accelerated else "",
            }
        )

    def peak(self, precision: str) -> float:
        """Returns the operations a second of matrix products.

        Args:
            precision: `bfloat16`, `float16`, `tf32` or `float32`. Types without units on the card run as
                float32.
        """
        if precision == "float16" or (precision == "bfloat16" and self.has_bfloat16):
            return self.half_tflops * 1e12
        if precision == "tf32" and self.tf32_tflops:
            return self.tf32_tflops * 1e12
        return self.float32_tflops * 1e12


_HOPPER: dict[str, Any] = {
    "capability": (9, 0),
    "cores": 132,
    "fp32_per_core": 128,
    "l2_mb": 50,
    "clock_ghz": 1.98,
    "shared_per_core": 233472,
    "shared_opt_in": 232448,
    "threads_per_core": 2048,
    "half_tflops": 989.4,
    "tf32_tflops": 494.7,
    "float32_tflops": 66.9,
    "accelerated": True,
}

CARDS: dict[str, Card] = {
    "v100": Card(
        "V100 SXM2", (7, 0), 80, 64, 898.0, 16.9, 6, 1.53, 98304, 98304, 2048, 125.0, 0.0, 15.7,
        has_bfloat16=False,
    ),
    "a100": Card(
        "A100 SXM 80 GB", (8, 0), 108, 64, 2039.0, 85.1, 40, 1.41, 167936, 166912, 2048, 312.0, 156.0, 19.5
    ),
    "rtx3090": Card(
        "RTX 3090", (8, 6), 82, 128, 936.0, 25.4, 6, 1.7, 102400, 101376, 1536, 71.0, 35.6, 35.6
    ),
    "rtx4090": Card(
        "RTX 4090", (8, 9), 128, 128, 1008.0, 25.4, 72, 2.52, 102400, 101376, 1536, 165.2, 82.6, 82.6
    ),
    "h100": Card("H100 SXM", bandwidth_gb=3352.3, memory_gb=84.9, **_HOPPER),
    "h200": Card("H200 SXM", bandwidth_gb=4800.0, memory_gb=151.4, **_HOPPER),
    "b200": Card(
        "B200 SXM", (10, 0), 148, 128, 7672.3, 191.5, 126.5, 1.965, 233472, 232448, 2048, 2250.0, 1125.0,
        75.0, accelerated=True,
    ),
    "rtxpro6000": Card(
        "RTX PRO 6000 Blackwell", (12, 0), 188, 128, 1792.0, 103.1, 128, 2.6, 131072, 101376, 1536, 503.8,
        251.9, 125.0,
    ),
}  # fmt: skip
"""The cards by the name that `--gpu` takes; peaks are the makers' dense figures."""


def card(name: str) -> Card:
    """Returns a card by its name, in any spelling: `RTX 4090` is `rtx4090`.

    Raises:
        ConfigError: if it is not known.
    """
    key = "".join(filter(str.isalnum, name.lower()))
    if key not in CARDS:
        raise ConfigError(f"--gpu: no card {name!r}; there are {', '.join(CARDS)}")
    return CARDS[key]
