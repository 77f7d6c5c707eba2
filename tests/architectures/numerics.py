"""In which numbers a model is compared with the reference, and how closely."""

from dataclasses import dataclass
from typing import Any

from gguf import GGMLQuantizationType as Format

from medusa.llama.params import CacheType


@dataclass(frozen=True)
class Tolerance:
    """How far an answer may be from the reference's; 0 means to the bit.

    logprob is in nats. A token may be another one than the reference's only where logits that
    far from the reference's would have made its sampler choose it, and in a few requests only.
    """

    logprob: float
    flips: float = 0.0  # at most that part of the requests, and one

    @property
    def is_exact(self) -> bool:
        return self.logprob == 0


@dataclass(frozen=True)
class Numerics:
    """Formats of weights and KV cache, and what may differ with them."""

    weights: Format | None  # None: as `write_model` chooses
    cache_type: CacheType
    flash_attention: bool
    tolerance: Tolerance

    @property
    def engine_options(self) -> dict[str, Any]:
        """Of an `EngineConfig`."""
        return {"cache_type": self.cache_type, "flash_attention": self.flash_attention}


AS_SERVED = Numerics(None, CacheType.F16, True, Tolerance(0.0))
"""With our kernels, where they do all that a model needs."""
IN_F32 = Numerics(Format.F32, CacheType.F32, False, Tolerance(1e-2, flips=0.05))
"""Where rounding depends on the batch, but hardly; half precision would hide what is wrong.
(llama.cpp looks GELU up by numbers in half precision, which makes 5e-3 of 1e-6.)"""
