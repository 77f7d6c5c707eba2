"""What the engine may do with a model's memory: branch, share, go back. Pure functions and data."""

from dataclasses import dataclass
from typing import Self

from medusa.engine.config import EngineConfig
from medusa.errors import ModelLoadError
from medusa.llama.capabilities import Capabilities, Memory
from medusa.llama.params import MAX_SEQUENCES, ContextParams

_SNAPSHOTS = 3
"""States kept of each sequence besides the newest. Each takes the memory of one more slot."""


@dataclass(frozen=True)
class MemoryRules:
    """How slots use the memory.

    ids is the number of sequence ids that each slot owns, which is the most leaves its tree may
    have. n_cells is how many tokens all slots may hold together. window is the length in tokens of
    the model's sliding windows, 0 without; is_guarded whether the cells that have left a window
    are kept (`GuardedLabels`). can_truncate is whether a text can lose its end, rollback how many
    tokens of the last decode can be taken back though it cannot. can_share is whether a slot can
    take over the beginning of another's.
    """

    ids: int
    n_cells: int
    window: int = 0
    is_guarded: bool = False
    can_truncate: bool = True
    rollback: int = 0
    can_share: bool = True

    @classmethod
    def of(cls, model: Capabilities, config: EngineConfig) -> Self:
        """The rules for a model.

        A recurrent model has a state for each slot and none for each token: its slots may all be
        full. Without full sliding windows, nobody may hold on to a cell that another one's label
        keeps from being used again, so nothing branches and nothing is shared.

        Raises:
            ModelLoadError: there are not enough sequence ids for so many slots.
        """
        slides = model.n_swa > 0 and not config.swa_full
        is_guarded = model.memory is Memory.WINDOWED and config.swa_full
        if is_guarded and 2 * config.n_slots > MAX_SEQUENCES:
            raise ModelLoadError(
                f"a model with full sliding windows can have {MAX_SEQUENCES // 2} slots at most, "
                f"not {config.n_slots}"
            )
        if is_guarded:
            ids = max(2, config.max_leaves)
        else:
            ids = config.max_leaves if model.can_branch and not slides else 1
        is_recurrent = model.memory is Memory.RECURRENT
        return cls(
            ids=ids,
            n_cells=config.cells * (config.n_slots if is_recurrent else 1),
            window=model.n_swa,
            is_guarded=is_guarded,
            can_truncate=model.can_truncate,
            rollback=min(_SNAPSHOTS, config.draft_nodes) if model.can_roll_back else 0,
            can_share=not slides,
        )

    def context_params(self, config: EngineConfig) -> ContextParams:
        """How the context is set up, for a config that is decided."""
        return ContextParams(
            n_ctx=config.cells,
            n_seq_max=config.n_slots * self.ids,
            n_batch=config.n_batch,
            n_threads=config.threads,
            flash_attention=config.flash_attention,
            cache_type=config.cache_type,
            n_rs_seq=self.rollback,
            swa_full=config.swa_full,
        )

    def usable_prefix(self, common: int, cached: int, first: int) -> int:
        """How many tokens of a cached text another text can go on from.

        Args:
            common: tokens that both begin with.
            cached: length of the cached text.
            first: its first position that every layer still remembers.
        """
        if not self.can_truncate:
            return common if common == cached else 0
        if self.window and first > max(0, common - self.window):
            return 0
        return common


def guarded_length(length: int, window: int) -> int:
    """How many of a text's first tokens need a second sequence id before the next decode.

    With sliding windows, llama.cpp may put new tokens into the cells of others: into those that
    carry one id and that the next token of this id cannot see (`llama_kv_cache::find_slot`). These
    are the positions up to length - window, or with chunks (Llama 4) all before the current chunk,
    which are never fewer. So the chunks' rule is right for both, and asks for labels once in a
    window's length.
    """
    return length // window * window
