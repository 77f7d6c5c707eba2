"""What a step takes: measured on CPUs, by the roofline of published figures on GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from medusa.speculation.cost import MeasuredCost


class Cost(Protocol):
    """Time of a llama_decode."""

    def seconds(self, rows: int, cached: int) -> float:
        """What so many rows take whose sequences have so many tokens in the KV cache together."""
        ...


@dataclass(frozen=True)
class Measured:
    """Measured milliseconds by rows, straight lines between them, and seconds a cached token."""

    milliseconds: Mapping[int, float]
    cached_seconds: float

    def seconds(self, rows: int, cached: int) -> float:
        """See Cost."""
        return self._cost.seconds(rows) + cached * self.cached_seconds

    @cached_property
    def _cost(self) -> MeasuredCost:
        seconds = [value / 1000 for value in self.milliseconds.values()]
        return MeasuredCost(list(self.milliseconds), seconds)


@dataclass(frozen=True)
class Shape:
    """A model as far as its speed goes. Sizes in bytes."""

    params: float
    weights: float
    kv_per_token: float


@dataclass(frozen=True)
class Roofline:
    """What bandwidth (bytes a second) and arithmetic (FLOP a second) allow at best: the larger of
    both times (Williams et al., "Roofline", CACM 2009)."""

    bandwidth: float
    flops: float
    shape: Shape

    def seconds(self, rows: int, cached: int) -> float:
        """See Cost."""
        read = self.shape.weights + cached * self.shape.kv_per_token
        return max(read / self.bandwidth, 2 * self.shape.params * rows / self.flops)


@dataclass(frozen=True)
class Device:
    """What a replica runs on, and how it is set up."""

    name: str
    source: str
    cost: Cost
    n_slots: int
    n_cells: int
    n_batch: int


LLAMA_8B = Shape(params=8.03e9, weights=16.06e9, kv_per_token=2 * 32 * 8 * 128 * 2)
"""Llama 3.1 8B in 16 bits: 32 layers, 8 KV heads of 128 (Grattafiori et al. 2024, table 3)."""

_USABLE = 0.9  # of a GPU's memory; the rest is for activations


def _gpu(
    name: str, source: str, *, memory: float, bandwidth: float, flops: float, n_slots: int
) -> Device:
    n_cells = int((_USABLE * memory - LLAMA_8B.weights) / LLAMA_8B.kv_per_token)
    cost = Roofline(bandwidth, flops, LLAMA_8B)
    return Device(name, source, cost, n_slots, n_cells, n_batch=2048)


CPU = Device(
    "2 cores (SmolLM2 135M)",
    "measured: [kernels.md](kernels.md), Q4_1, context 256 and eight sequences of 1,000",
    Measured(
        {1: 5.94, 2: 7.24, 4: 7.38, 8: 10.5, 16: 16.9, 32: 26.6, 256: 164.0}, cached_seconds=2.3e-6
    ),
    n_slots=8,
    n_cells=16_384,
    n_batch=512,
)
RTX_4090 = _gpu(
    "RTX 4090 (Llama 8B)",
    "[NVIDIA Ada whitepaper](https://images.nvidia.com/aem-dam/Solutions/geforce/ada/"
    "nvidia-ada-gpu-architecture.pdf): 24 GB, 1,008 GB/s, 165.2 TFLOPS (FP16, FP32 accumulate)",
    memory=24e9,
    bandwidth=1008e9,
    flops=165.2e12,
    n_slots=32,
)
A100 = _gpu(
    "A100 SXM 80 GB (Llama 8B)",
    "[NVIDIA A100](https://www.nvidia.com/en-us/data-center/a100/): 80 GB, 2,039 GB/s, 312 TFLOPS "
    "(BF16)",
    memory=80e9,
    bandwidth=2039e9,
    flops=312e12,
    n_slots=64,
)
H100 = _gpu(
    "H100 SXM (Llama 8B)",
    "[NVIDIA H100](https://www.nvidia.com/en-us/data-center/h100/): 80 GB, 3.35 TB/s, 989 TFLOPS "
    "(BF16, half of the figure with sparsity)",
    memory=80e9,
    bandwidth=3.35e12,
    flops=989e12,
    n_slots=64,
)
DEVICES = (CPU, RTX_4090, A100, H100)
