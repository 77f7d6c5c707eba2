"""What a model can do, asked once when it is opened: what is served fully, with limits, or not.

llama.cpp answers most of it by functions of llama.h. What those do not tell follows from the
architecture's name, as in `llama_model::create_memory` of its src/llama-model.cpp.
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


_EMBEDDING = frozenset(
    {
        "bert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "eurobert",
        "gemma-embedding",
        "llama-embed",
    }
)
_AUDIO = frozenset({"wavtokenizer-dec", "qwen3tts", "pockettts"})
_DRAFT_ONLY = frozenset({"eagle3", "dflash", "gemma4-assistant"})
_ONE_SEQUENCE = frozenset({"deepseek4", "minimax-m3"})
"""Their sparse attention compresses or selects blocks of a cache that only one sequence may use."""
_ROLLING_BACK = frozenset(
    {"lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe"}
)
"""Of those in `llm_arch_supports_rs_rollback` the ones that our tests have as well."""
_LOGITS_OR_HIDDEN = frozenset({"lfm2", "lfm2moe"})
"""Their graph has no logits while hidden states are asked for (src/models/lfm2.cpp)."""


@dataclass(frozen=True)
class Capabilities:
    """What a model is, as far as it matters to serving.

    n_swa is the length of the sliding windows in tokens, 0 without; n_embd and n_embd_out are the
    widths that lm_head reads and that llama.cpp gives out as hidden states.
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
    vocabulary: str  # kind of tokenizer
    has_end: bool  # whether any token ends an answer
    n_embd: int
    n_embd_out: int

    @property
    def can_branch(self) -> bool:
        """Whether several continuations of one text can be computed at once (candidate trees)."""
        return self.memory in (Memory.ATTENTION, Memory.WINDOWED)

    @property
    def can_truncate(self) -> bool:
        """Whether the end of a text can be taken back (drafts, partial reuse of prefixes)."""
        return self.can_branch

    @property
    def can_roll_back(self) -> bool:
        """Whether a state can go back by a few tokens, for which snapshots of it are kept."""
        return self.architecture in _ROLLING_BACK

    @property
    def gives_hidden_states(self) -> bool:
        """Whether the input of lm_head, which Medusa heads read, can be had beside logits."""
        return self.n_embd_out == self.n_embd and self.architecture not in _LOGITS_OR_HIDDEN

    @property
    def is_embedding(self) -> bool:
        """Whether it turns texts into vectors or scores, and does not continue them."""
        made_for_it = self.architecture in _EMBEDDING or self.pooling is not None
        return made_for_it or not self.is_causal

    @property
    def description(self) -> str:
        """How the model remembers, in a few words."""
        return f"{self.memory} of {self.n_swa:,} tokens" if self.n_swa else str(self.memory)

    @property
    def refusal(self) -> str | None:
        """Why the model cannot be served here and what to use instead; None: it can."""
        name = self.architecture
        if self.is_diffusion:
            return (
                f"{name} is a diffusion model, which does not write from left to right; use "
                "llama-diffusion-cli of llama.cpp"
            )
        if name in _AUDIO:
            return f"{name} makes sound, not text; use llama-tts of llama.cpp"
        if name in _DRAFT_ONLY:
            return (
                f"{name} only drafts for another model; serve that one, with Medusa heads or "
                "lookup, or use llama-server with --model-draft"
            )
        if self.has_encoder or not self.has_decoder:
            return (
                f"{name} has an encoder, which is not supported; use a model that only decodes, or "
                "llama-cli of llama.cpp"
            )
        if name in _ONE_SEQUENCE:
            return (
                f"{name}'s sparse attention needs a KV cache for each sequence, and here all share "
                "one; use llama-server"
            )
        return None

    @property
    def limits(self) -> tuple[str, ...]:
        """What is not done for this model though it is for others, one phrase each."""
        if self.is_embedding:
            return ("no text is generated",)
        limits = []
        if not self.can_truncate:
            drafts = "drafts of a few tokens in a row" if self.can_roll_back else "no drafts"
            limits += [drafts, "cached prefixes are reused only where they go on"]
        if not self.gives_hidden_states:
            limits.append("no Medusa heads")
        if "mrope" in self.rotary:
            limits.append("text only, no images")
        if not self.has_end:
            limits.append("no token ends an answer: set max_tokens or stop")
        return tuple(limits)


def of_model(llama_cpp: Any, handle: Any, metadata: Callable[[str], str | None]) -> Capabilities:
    """Ask llama.cpp.

    Args:
        llama_cpp: the module of llama.cpp's C functions.
        handle: a llama_model, with or without its weights.
        metadata: the value of a scalar GGUF metadata key, as text.
    """
    architecture = metadata("general.architecture") or "unknown"
    vocab = llama_cpp.llama_model_get_vocab(handle)
    n_swa = int(llama_cpp.llama_model_n_swa(handle))
    pooling = metadata(f"{architecture}.pooling_type")
    return Capabilities(
        architecture=architecture,
        memory=_memory(llama_cpp, handle, architecture, n_swa),
        n_swa=n_swa,
        has_encoder=bool(llama_cpp.llama_model_has_encoder(handle)),
        has_decoder=bool(llama_cpp.llama_model_has_decoder(handle)),
        is_diffusion=bool(llama_cpp.llama_model_is_diffusion(handle)),
        is_causal=metadata(f"{architecture}.attention.causal") != "false",
        pooling=_POOLING.get(pooling or "", pooling),
        rotary=_ROTARY.get(int(llama_cpp.llama_model_rope_type(handle)), "unknown"),
        vocabulary=_VOCABULARY.get(int(llama_cpp.llama_vocab_type(vocab)), "unknown"),
        has_end=max(llama_cpp.llama_vocab_eos(vocab), llama_cpp.llama_vocab_eot(vocab)) >= 0,
        n_embd=int(llama_cpp.llama_model_n_embd(handle)),
        n_embd_out=int(llama_cpp.llama_model_n_embd_out(handle)),
    )


def _memory(llama_cpp: Any, handle: Any, architecture: str, n_swa: int) -> Memory:
    if llama_cpp.llama_model_is_recurrent(handle):
        return Memory.RECURRENT
    if llama_cpp.llama_model_is_hybrid(handle):
        return Memory.HYBRID
    without = architecture in _EMBEDDING or architecture == "wavtokenizer-dec"
    if without or llama_cpp.llama_model_is_diffusion(handle):
        return Memory.NONE
    return Memory.WINDOWED if n_swa else Memory.ATTENTION


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

_VOCABULARY = {0: "none", 1: "spm", 2: "bpe", 3: "wpm", 4: "ugm", 5: "rwkv", 6: "plamo2"}
"""llama_vocab_type."""
