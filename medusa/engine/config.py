"""How the engine is set up: each of its options, once."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from medusa.engine.pooling import Pooling
from medusa.errors import ModelLoadError
from medusa.llama.capabilities import Capabilities
from medusa.llama.params import MAX_SEQUENCES, CacheType
from medusa.llama.threads import default_threads
from medusa.speculation.cost import StepCost
from medusa.speculation.tree import StaticShape

HEADROOM = 64
"""Free cells asked for beyond a request's tokens at admission, so that it can run for a while."""

_MAX_LEAVES = 16
_MAX_SCORED_ROWS = 64
_CONTEXT_PER_SLOT = 2048
_LONGEST_DEFAULT, _LONGEST_RESERVE = 8192, 256


@dataclass(frozen=True)
class EngineConfig:
    """How the engine is set up. Lengths are in tokens.

    n_ctx is the size of the KV cache that all slots share (None: 2048 a slot, and room for one
    request of the model's trained length, up to 8192); n_threads None means all cores that this
    process may use. draft_nodes is the most guesses verified in a step, shared by the running
    requests; lookup whether guesses also come from the requests' own texts; tree_shape a fixed
    tree of the heads' guesses instead; max_stall the seconds for which a prefill may hold up
    requests that are decoding. cost says when a guess is worth verifying; None: as measured at
    the start and from then on. swa_full keeps the cells of all tokens in layers with sliding
    windows too, so that prefixes are reused and guesses branch as with other models; without it
    these layers take memory for their windows only. pooling is how texts become embeddings; None:
    as the model says, or by the mean. prompt_cache_ram is how many bytes of RAM hold the states of
    texts that left the KV cache (None: a quarter of what is free, 8 GiB at most; 0: none);
    prompt_cache_dir a folder that keeps them too, in prompt_cache_disk bytes at most.

    Raises:
        ModelLoadError: the sizes contradict each other.
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
    swa_full: bool = True
    pooling: Pooling | None = None
    prompt_cache_ram: int | None = None
    prompt_cache_dir: Path | None = None
    prompt_cache_disk: int = 16 << 30

    def __post_init__(self) -> None:
        if not 1 <= self.n_slots <= MAX_SEQUENCES:
            raise ModelLoadError(f"there must be 1 to {MAX_SEQUENCES} slots, not {self.n_slots}")
        if self.scored_rows < 1:
            raise ModelLoadError("batch size must exceed one token per slot and all draft nodes")
        if self.n_batch < self.n_slots * self.max_leaves:
            raise ModelLoadError(
                f"batch size must be at least {self.n_slots * self.max_leaves}, the sequence ids "
                f"of {self.n_slots} slots"
            )
        if self.n_ctx is not None and self.n_ctx < self.n_slots + self.draft_nodes + 2 * HEADROOM:
            raise ModelLoadError(f"a context of {self.n_ctx} tokens is too small to run in")

    @property
    def max_leaves(self) -> int:
        """Sequence ids of each slot: the most branches its tree may have."""
        return max(1, min(MAX_SEQUENCES // self.n_slots, _MAX_LEAVES, self.draft_nodes))

    @property
    def scored_rows(self) -> int:
        """Prompt tokens with logits that fit into a step's decode beside all trees."""
        return min(_MAX_SCORED_ROWS, self.n_batch - self.n_slots - self.draft_nodes)

    @property
    def cells(self) -> int:
        """Size of the KV cache, once it is decided."""
        assert self.n_ctx is not None
        return self.n_ctx

    @property
    def threads(self) -> int:
        """Threads to compute with, once they are decided."""
        assert self.n_threads is not None
        return self.n_threads

    def decided(self, n_ctx_train: int, model: Capabilities) -> Self:
        """The same with what was left open filled in, and without what the model cannot do.

        Args:
            n_ctx_train: length in tokens that the model was trained for.
            model: what it can do.
        """
        trained = min(n_ctx_train, _LONGEST_DEFAULT) + _LONGEST_RESERVE
        return replace(
            self,
            n_ctx=self.n_ctx or max(_CONTEXT_PER_SLOT * self.n_slots, trained),
            n_threads=self.n_threads or default_threads(),
            draft_nodes=self.draft_nodes if model.can_truncate or model.can_roll_back else 0,
        )
