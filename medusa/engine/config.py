"""How an engine is set up: plain data, for which nothing native is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medusa.llama.params import CacheType

if TYPE_CHECKING:
    from medusa.speculation.growth import StepCost
    from medusa.speculation.tree import StaticShape


@dataclass(frozen=True)
class EngineConfig:
    """How the engine is set up. Lengths are in tokens, None is decided by model and machine.

    n_ctx is the size of the KV cache that all slots share; draft_nodes the most guesses verified
    in a step, shared by the running requests; lookup whether guesses also come from the requests'
    own texts; tree_shape a fixed tree of the heads' guesses instead; max_stall the seconds for
    which a prefill may hold up requests that are decoding. cost says when a guess is worth
    verifying; None: as measured at the start and from then on.
    """

    n_slots: int = 8
    n_ctx: int | None = None
    n_batch: int = 512
    n_threads: int | None = None
    max_queue: int = 128
    draft_nodes: int = 16
    lookup: bool = True
    tree_shape: StaticShape | None = None
    cost: StepCost | None = None
    max_stall: float = 0.25
    flash_attention: bool | None = None
    cache_type: CacheType = CacheType.F16
