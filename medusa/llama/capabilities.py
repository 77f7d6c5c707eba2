"""What a model can do, asked once when it is loaded: what is served fully, with limits, or not.

llama.cpp answers most of it by functions of llama.h; what those do not tell stands in the file's
metadata.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Memory(StrEnum):
    """How a model remembers what it has read."""

    ATTENTION = "attention"  # a KV cell for each token, kept until it is removed
    WINDOWED = "sliding windows"  # the same, but some layers see the newest tokens only
    RECURRENT = "recurrent"  # one state, which forgets how it came about
    HYBRID = "hybrid"  # both kinds of layers
    NONE = "none"


@dataclass(frozen=True)
class Capabilities:
    """What a model is, as far as it matters to serving.

    n_swa is the length of the sliding windows in tokens, 0 without.
    """

    architecture: str
    memory: Memory
    n_swa: int
    has_encoder: bool
    has_decoder: bool
    is_diffusion: bool
    is_causal: bool
    pooling: str | None  # of an embedding model
    rotary: str  # kind of position embedding

    @property
    def can_branch(self) -> bool:
        """Whether several continuations of one text can be computed at once (candidate trees)."""
        return self.memory in (Memory.ATTENTION, Memory.WINDOWED)

    @property
    def can_truncate(self) -> bool:
        """Whether the end of a text can be taken back (drafts, partial reuse of prefixes)."""
        return self.can_branch

    @property
    def gives_hidden(self) -> bool:
        """Whether logits and hidden states come of one decode: LFM 2's graph has either."""
        return self.architecture not in ("lfm2", "lfm2moe")

    @property
    def refusal(self) -> str | None:
        """Why the model cannot generate text here and what to use instead; None: it can."""
        if self.is_diffusion:
            return "a diffusion model does not write from left to right; use llama-diffusion-cli"
        if self.pooling is not None or not self.is_causal:
            return "an embedding model cannot generate text; use llama-server --embeddings"
        if self.has_encoder or not self.has_decoder:
            return "a model with an encoder is not supported; use llama-cli or a decoder-only model"
        return None

    @property
    def limits(self) -> tuple[str, ...]:
        """What is not done for this model though it is for others, one phrase each."""
        if self.can_truncate:
            return ()
        return ("no drafts", "cached prefixes are reused only where they go on")


def of_model(llama_cpp: Any, handle: Any, metadata: Callable[[str], str | None]) -> Capabilities:
    """Ask llama.cpp.

    Args:
        llama_cpp: the module of llama.cpp's C functions.
        handle: a llama_model.
        metadata: the value of a scalar GGUF metadata key, as text.
    """
    architecture = metadata("general.architecture") or "unknown"
    n_swa = int(llama_cpp.llama_model_n_swa(handle))
    if llama_cpp.llama_model_is_recurrent(handle):
        memory = Memory.RECURRENT
    elif llama_cpp.llama_model_is_hybrid(handle):
        memory = Memory.HYBRID
    else:
        memory = Memory.WINDOWED if n_swa else Memory.ATTENTION
    pooling = metadata(f"{architecture}.pooling_type")
    return Capabilities(
        architecture=architecture,
        memory=memory,
        n_swa=n_swa,
        has_encoder=bool(llama_cpp.llama_model_has_encoder(handle)),
        has_decoder=bool(llama_cpp.llama_model_has_decoder(handle)),
        is_diffusion=bool(llama_cpp.llama_model_is_diffusion(handle)),
        is_causal=metadata(f"{architecture}.attention.causal") != "false",
        pooling=_POOLING.get(pooling or "", pooling),
        rotary=_ROTARY.get(int(llama_cpp.llama_model_rope_type(handle)), "unknown"),
    )


_POOLING: dict[str, str | None] = {
    "": None,
    "-1": None,
    "0": None,
    "1": "mean",
    "2": "cls",
    "3": "last",
    "4": "rank",
}
"""llama_pooling_type."""

_ROTARY = {-1: "none", 0: "norm", 2: "neox", 8: "mrope", 24: "vision", 40: "imrope"}
"""llama_rope_type."""
